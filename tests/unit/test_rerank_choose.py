"""Aggregations and rules: what they choose, what they do with nothing, and that order does not matter."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_math.errors import UserError
from openrlhf_math.rerank.aggregate import AGGREGATIONS, aggregate, find_aggregation
from openrlhf_math.rerank.choose import (
    RULES,
    best_of_n,
    chairman,
    find_rule,
    genselect,
    majority,
    needs_scores,
    sums,
    weighted,
)

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    "name, steps, score",
    [
        ("last", [0.9, 0.5, 0.8], 0.8),
        ("min", [0.9, 0.5, 0.8], 0.5),
        ("product", [0.9, 0.5, 0.8], 0.36),
        ("mean", [0.9, 0.5, 0.7], 0.7),
        *((name, [0.3], 0.3) for name in AGGREGATIONS),
        *((name, 0.3, 0.3) for name in AGGREGATIONS),
    ],
)
def test_aggregations(name, steps, score):
    values, unscored = aggregate([steps], find_aggregation(name))
    assert values == [pytest.approx(score)] and unscored == 0


@pytest.mark.parametrize("name", AGGREGATIONS)
@pytest.mark.parametrize("nothing", [None, [], NAN, INF, -INF, [0.9, NAN], [NAN, 0.9], [INF, 0.1]])
def test_nan_score_is_lowest_and_counted(name, nothing):
    assert aggregate([0.7, nothing], find_aggregation(name)) == ([0.7, 0.0], 1)
    assert aggregate([-3.0, nothing], find_aggregation(name)) == ([-3.0, -3.0], 1)
    assert aggregate([nothing], find_aggregation(name)) == ([0.0], 1)


def test_aggregation_that_gives_no_number():
    assert aggregate([[1e308, 1e308], 0.5], sum) == ([0.0, 0.5], 1)


CASES = [
    # clusters, scores, majority, weighted, best_of_n, weighted_best_of_n
    ([], [], None, None, None, None),
    ([None, None], [0.9, 0.9], None, None, None, None),
    ([0], [0.0], 0, 0, 0, 0),
    ([None, 0], [0.9, 0.1], 1, 1, 1, 1),
    ([0, 1, 1], [0.9, 0.2, 0.3], 1, 0, 0, 0),
    ([0, 1, 1, 2], [0.7, 0.4, 0.5, 0.8], 1, 1, 3, 2),
    ([0, 1], [0.5, 0.5], 0, 0, 0, 0),
    ([0, 1, 1, 0], [0.1, 0.6, 0.6, 0.1], 0, 1, 1, 1),
    ([0, 1, 1], [0.0, 0.0, 0.0], 1, 1, 1, 1),
    ([0, 0, 1], [-1.0, -1.0, -1.5], 0, 0, 0, 0),
    ([0, 1, 1, 1], [0.3, 0.1, 0.1, 0.1], 1, 1, 0, 1),  # 0.1 + 0.1 + 0.1 > 0.3 exactly
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rules(case):
    clusters, scores, *wanted = case
    chosen = [RULES[name](clusters, scores) for name in ("majority", "weighted", "best_of_n", "weighted_best_of_n")]
    assert chosen == wanted


@pytest.mark.parametrize(
    "clusters, scores, chosen",
    [
        ([], [], None),
        ([None], [0.9], None),
        ([0, 0, 0], [0.2, 0.4, 0.3], 1),
        ([0, 0, 0, 0, 0, 1], [0.1, 0.1, 0.2, 0.1, 0.1, 0.9], 2),  # a clear majority; its best attempt represents it
        ([0, 0, 0, 1, 1], [0.1, 0.1, 0.2, 0.1, 0.9], 4),  # a split vote: the verifier judges
        ([0, 0, 1], [0.1, 0.1, 0.9], 2),
        ([0, 0, 0, 0, 1, 1, 1, 2], [0.1, 0.1, 0.1, 0.3, 0.1, 0.5, 0.2, 0.9], 7),  # 4:1 is not clear
        ([0] * 6 + [1] * 5 + [2], [0.1] * 6 + [0.1] * 4 + [0.5, 0.9], 10),  # 6:1 is: the third is out
        ([0, 1], [0.5, 0.5], 0),
    ],
)
def test_chairman_follows_a_clear_majority_and_else_the_verifier(clusters, scores, chosen):
    assert chairman(clusters, scores) == chosen


ATTEMPTS = st.lists(
    st.tuples(st.none() | st.integers(0, 4), st.floats(0, 1)),
    min_size=1,
    max_size=20,
)


def winner(rule, attempts):
    """The cluster that wins, and whether another one is as good."""
    clusters, scores = zip(*attempts, strict=True)
    number = rule(clusters, scores)
    if number is None:
        return None, False

    def worth(name):
        members = [score for one, score in attempts if one == name]
        if rule in (majority, genselect):
            return len(members)
        return max(members) if rule in (best_of_n, chairman) else math.fsum(members)

    best = worth(clusters[number])
    return clusters[number], sum(worth(name) == best for name in set(clusters) - {None}) > 1


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(attempts=ATTEMPTS, seed=st.integers(0, 1000))
def test_order_of_the_attempts_does_not_change_the_chosen_cluster(rule, attempts, seed):
    chosen, tied = winner(rule, attempts)
    shuffled = random.Random(seed).sample(attempts, len(attempts))
    assert tied or winner(rule, shuffled)[0] == chosen


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(attempts=ATTEMPTS, score=st.floats(0, 1))
def test_extra_vote_for_the_leader_keeps_it(rule, attempts, score):
    chosen, _ = winner(rule, attempts)
    if chosen is not None:
        assert winner(rule, [*attempts, (chosen, score)])[0] == chosen


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(attempts=ATTEMPTS)
def test_attempt_without_an_answer_has_no_effect(rule, attempts):
    chosen, _ = winner(rule, attempts)
    assert winner(rule, [(None, 1.0), *attempts])[0] == chosen


@given(attempts=ATTEMPTS)
def test_with_equal_scores_the_weighted_vote_is_the_majority(attempts):
    clusters = [name for name, _ in attempts]
    assert weighted(clusters, [1.0] * len(clusters)) == majority(clusters)


def middle(clusters, scores):
    return len(clusters) // 2


def test_custom_object_by_dotted_path():
    rule = find_rule(f"{__name__}.middle")
    assert rule([0, 0, 1], [0.0] * 3) == 1 and rule.__name__ == "middle" and needs_scores(rule)
    for number in (0, 1):
        middle.sums = bool(number)
        assert sums(find_rule(f"{__name__}.middle")) is middle.sums
    assert find_aggregation("math.fsum")([0.5, 0.5]) == 1.0


@pytest.mark.parametrize("name", ["nosuch", "no.such.thing", "math.nosuch"])
def test_unresolvable_name_is_refused(name):
    with pytest.raises(UserError, match=f"--rule {name}"):
        find_rule(name)
    with pytest.raises(UserError, match=f"--aggregate {name}"):
        find_aggregation(name)
