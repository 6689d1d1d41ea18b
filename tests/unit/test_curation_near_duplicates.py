"""Pairs are proposed where they must be, and in proportion to the rows."""

import numpy as np

from openrlhf_math.curation.alike import BANDS, band_keys, candidates
from openrlhf_math.curation.normalise import tokens

STORY = "Tom has 3 red boxes and buys 12 more blue boxes at the market. How many boxes does he have altogether?"


def test_problems_with_different_numbers_are_never_paired():
    lists = [tokens(STORY.replace("12", str(number))) for number in range(100, 400)]
    assert len(np.unique(band_keys(lists))) == 300 * (BANDS + 1)


def test_candidates_are_pairs_of_the_same_key_the_later_first():
    keys = np.array([7, 5, 7, 9, 5, 7], np.uint64)
    rows = np.array([30, 10, 20, 40, 11, 25], np.uint64)
    assert candidates(keys, rows).tolist() == [[11, 10], [25, 20], [30, 20], [30, 25]]
    assert candidates(keys[:2], rows[:2]).shape == (0, 2)
    assert candidates(keys[:0], rows[:0]).shape == (0, 2)


def test_pairs_of_a_crowded_key_stay_in_proportion():
    rows = np.arange(5000, dtype=np.uint64)
    pairs = candidates(np.full(5000, 3, np.uint64), rows, window=4)
    assert len(pairs) < 5 * 5000
    assert set(pairs[:, 0].tolist()) == set(range(1, 5000))  # each but the first has an earlier one
