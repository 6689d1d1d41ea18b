"""Scores that are not probabilities, and attempts without any: checked against plain formulas in numpy."""

import numpy as np
import pytest

from openrlhf_math.rerank.aggregate import aggregate, last
from openrlhf_math.rerank.anytime import Attempt, VoteState
from openrlhf_math.rerank.choose import RULES, best_of_n, majority, needs_scores, weighted
from openrlhf_math.rerank.early_stop import confident


def naive_weighted(clusters, logits) -> int:
    weights = np.exp(np.array(logits)) / np.exp(np.array(logits)).sum()
    totals = [sum(weights[i] for i, name in enumerate(clusters) if name == one) for one in range(max(clusters) + 1)]
    return clusters.index(int(np.argmax(totals)))


@pytest.mark.parametrize("seed", range(50))
def test_shift_of_all_logits_changes_no_choice(seed):
    draw = np.random.default_rng(seed)
    clusters = [0, *draw.integers(0, 2, 3).tolist(), 1, 2]
    logits = (draw.normal(0, 2, len(clusters)) + 5).tolist()
    for shift in (-8.0, -100.0, 3.0):
        assert weighted(clusters, [logit + shift for logit in logits]) == naive_weighted(clusters, logits)
        for rule in filter(needs_scores, RULES.values()):
            assert rule(clusters, [logit + shift for logit in logits]) == rule(clusters, [one + 50 for one in logits])


def test_vote_never_counts_against_its_class():
    assert weighted([0, 0, 0, 1], [-3.0, -3.0, -3.0, -2.9]) == 0


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule is not majority])
def test_where_no_attempt_is_scored_the_majority_wins(name):
    clusters = [0, 1, 1, None]
    scores, unscored = aggregate([None] * 4, last)
    assert unscored == 4 and RULES[name](clusters, scores) == 1


def test_attempt_without_a_score_is_not_preferred_to_one_with_a_negative():
    scores, unscored = aggregate([None, -3.0, -5.0], last)
    assert (scores, unscored) == ([-5.0, -3.0, -5.0], 1)
    assert best_of_n([0, 1, 2], scores) == 1
    scores, _ = aggregate([None, 7.0, 5.0], last)
    assert scores == [5.0, 7.0, 5.0]


def polled(clusters, logits) -> VoteState:
    state = VoteState(lambda first, second: False, weighted)
    for name, logit in zip(clusters, logits, strict=True):
        state.add(Attempt(str(name), logit))
    return state


def test_equal_logits_are_votes_and_a_dominant_one_is_one_vote():
    assert polled("aaaab", [-3.0] * 5).totals() == pytest.approx((4, 1))
    assert polled("aaaab", [-3.0] * 4 + [40.0]).totals() == pytest.approx((0, 1), abs=1e-6)


@pytest.mark.parametrize("shift", [-8.0, 3.0])
def test_logit_lead_is_never_final(shift):
    state = polled("aaaaaa", [shift, shift + 0.1, shift - 0.1, shift, shift, shift])
    assert confident(0.95)(state.totals(), 26) and not state.bounded()
    assert not confident(0.95)(polled("ab", [shift, shift]).totals(), 30)
