"""What a step's groups came to, against counts made by hand and by drawing every subset."""

import itertools
import math

import numpy as np
import pytest

from openrlhf_math.grpo.metrics import MOST_LEVELS, MOST_SOURCES, Strata, group_metrics, length_metrics


def test_pass_at_k_is_the_share_of_subsets_with_a_correct_completion():
    outcomes = {0: (0, 6), 5: (1, 6), 7: (3, 6), 9: (6, 6)}
    found = group_metrics(outcomes)
    for k in (2, 4):
        subsets = [
            any(number < correct for number in subset)
            for correct, size in outcomes.values()
            for subset in itertools.combinations(range(size), k)
        ]
        assert found[f"groups/pass_at_{k}"] == pytest.approx(sum(subsets) / len(subsets))
    assert "groups/pass_at_8" not in found
    assert [found[f"groups/solved_{name}"] for name in ("none", "some", "all")] == [0.25, 0.5, 0.25]
    assert group_metrics({}) == {}


def test_smallest_group_bounds_k():
    assert "groups/pass_at_4" not in group_metrics({0: (1, 8), 1: (1, 3)})


def test_accuracy_by_source_and_difficulty_counts_completions():
    strata = Strata(["a", "b", "b", "a"], np.array([1.0, 2.0, 2.0, math.nan]))
    found = strata.accuracies({0: (1, 4), 1: (4, 4), 2: (0, 12), 3: (3, 4)})
    assert found == {
        "accuracy/source/a": 4 / 8,
        "accuracy/source/b": 4 / 16,
        "accuracy/difficulty/1": 1 / 4,
        "accuracy/difficulty/2": 4 / 16,
    }


def test_one_source_without_difficulty_has_no_breakdown():
    assert Strata(["a", "a"], np.full(2, math.nan)).accuracies({0: (1, 2)}) == {}


def test_many_sources_and_difficulties_are_few_metrics():
    sources = [f"set {number}" for number in range(50) for _ in range(50 - number)]
    difficulty = np.random.default_rng(0).random(len(sources))
    found = Strata(sources, difficulty).accuracies(dict.fromkeys(range(len(sources)), (1, 2)))
    by_source = [name for name in found if "source" in name]
    assert len(by_source) == MOST_SOURCES + 1 and "accuracy/source/other" in by_source
    assert len(found) - len(by_source) == MOST_LEVELS


def test_difficulty_range_contains_its_problems():
    difficulty = np.arange(100.0)
    strata = Strata(["a"] * 100, difficulty)
    for problem in (0, 12, 13, 99):
        (name,) = strata.accuracies({problem: (1, 1)})
        low, high = map(float, name.rsplit("/", 1)[1].split(" to "))
        assert low <= difficulty[problem] <= high


def test_lengths_of_right_and_wrong_completions():
    found = length_metrics([10, 20, 30, 40, 100], [True, True, True, False, False])
    assert (found["length/correct_mean"], found["length/correct_p50"], found["length/wrong_mean"]) == (20, 20, 70)
    assert found["length/correct_p90"] == pytest.approx(28)
    assert all("correct" in name for name in length_metrics([10], [True]))
