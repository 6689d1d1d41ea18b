"""Pairs are proposed where they must be, and judged by more than their likeness."""

import numpy as np
import pytest

from openrlhf_math.curation.near_duplicates import BANDS, THRESHOLD, band_keys, candidates, similarity
from openrlhf_math.curation.normalise import tokens

STORY = "Tom has 3 red boxes and buys 12 more blue boxes at the market. How many boxes does he have altogether?"
FORMULA = r"Find the largest value of $2(x+3)$ such that $x^2 + y \le 10$ and $\sin x > 0$."

SAME = [
    (STORY, STORY),
    (STORY, STORY.replace("3", "three").replace("12", "twelve")),
    (STORY, STORY.replace("altogether", "in total").replace("buys", "purchases")),
    (STORY, STORY.replace("Tom", "Priyanka")),
    (STORY, "Solve this problem. " + STORY),
    (FORMULA, FORMULA.replace("$", " $ ").replace(r"\le", r"\leq").replace("largest", "maximum")),
]
OTHER = [
    (STORY, STORY.replace("12", "13")),
    (STORY, STORY.replace("3", "x").replace("12", "3").replace("x", "12")),
    (STORY, STORY.replace("more", "fewer")),
    (STORY, STORY.replace("has 3", "has no 3")),
    (STORY, STORY.replace("buys 12 more", "gives away 12")),
    (STORY, STORY + " He loses 2."),
    (FORMULA, FORMULA.replace("largest", "smallest")),
    (FORMULA, FORMULA.replace("+ y", "- y")),
    (FORMULA, FORMULA.replace("y", "z")),
    (FORMULA, FORMULA.replace(r"\le", r"\ge")),
    (FORMULA, FORMULA.replace("sin", "cos")),
    (FORMULA, FORMULA.replace("(x+3)", "x+3")),
    ("", ""),
]


@pytest.mark.parametrize("first, second", SAME)
def test_the_same_problem(first, second):
    assert similarity(tokens(first), tokens(second)) >= THRESHOLD
    shared = band_keys([tokens(first), tokens(second)])
    assert (shared[0] == shared[1]).any()


@pytest.mark.parametrize("first, second", OTHER)
def test_another_problem(first, second):
    assert similarity(tokens(first), tokens(second)) == 0
    assert similarity(tokens(second), tokens(first)) == 0


def test_problems_with_other_numbers_never_meet():
    lists = [tokens(STORY.replace("12", str(number))) for number in range(100, 400)]
    assert len(np.unique(band_keys(lists))) == 300 * (BANDS + 1)


def test_candidates_are_pairs_of_the_same_key_the_later_first():
    keys = np.array([7, 5, 7, 9, 5, 7], np.uint64)
    rows = np.array([30, 10, 20, 40, 11, 25], np.uint64)
    assert candidates(keys, rows).tolist() == [[11, 10], [25, 20], [30, 20], [30, 25]]
    assert candidates(keys[:2], rows[:2]).shape == (0, 2)
    assert candidates(keys[:0], rows[:0]).shape == (0, 2)


def test_the_pairs_of_a_crowded_key_stay_in_proportion():
    rows = np.arange(5000, dtype=np.uint64)
    pairs = candidates(np.full(5000, 3, np.uint64), rows, window=4)
    assert len(pairs) < 5 * 5000
    assert set(pairs[:, 0].tolist()) == set(range(1, 5000))  # each but the first has an earlier one
