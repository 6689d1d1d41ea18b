"""What may be spent, when to stop early, and that there is an answer at any time."""

import asyncio
import itertools
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_math.rerank.anytime import Attempt, VoteState, decide
from openrlhf_math.rerank.budget import Budget, Limits, SetBudget
from openrlhf_math.rerank.choose import best_of_n, majority, weighted
from openrlhf_math.rerank.early_stop import cannot_lose, confident, lead_probability, votes_needed, wave


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.mark.parametrize(
    "limits, exhausted",
    [
        (Limits(), ""),
        (Limits(tokens=21, attempts=3, seconds=6), ""),
        (Limits(tokens=20), "tokens"),
        (Limits(attempts=2), "attempts"),
        (Limits(seconds=5), "seconds"),
        (Limits(attempts=0), "attempts"),
    ],
)
def test_budget_is_exhausted_when_a_limit_is_reached(limits, exhausted, clock):
    budget = Budget(limits, clock)
    for _ in range(2):
        budget.spend(10)
        budget.count()
    clock.now = 5.0
    assert budget.exhausted() == exhausted


@pytest.mark.parametrize("limits", [{"tokens": -1}, {"seconds": math.nan}, {"attempts": -0.5}])
def test_invalid_limits(limits):
    with pytest.raises(ValueError, match=next(iter(limits))):
        Limits(**limits)


def test_unspent_seconds_carry_over(clock):
    budgets = SetBudget(Limits(seconds=100), Limits(seconds=40), problems=4, clock=clock)
    shares = []
    for used in (5, 25, 40, 10):
        with budgets.problem() as budget:
            shares.append(budget.limits.seconds)
            clock.now += used
    assert shares == [25, pytest.approx(95 / 3), 35, 30]


def test_unspent_tokens_carry_over_and_overspent_ones_are_deducted(clock):
    budgets = SetBudget(Limits(tokens=1000, attempts=10), Limits(), problems=4, clock=clock)
    shares = []
    for tokens in (50, 600, 0, 0):
        with budgets.problem() as budget:
            shares.append((budget.limits.tokens, budget.limits.attempts))
            if tokens:
                budget.spend(tokens)
                budget.count()
    assert shares == [(250, 2), (316, 3), (175, 4), (350, 8)]


def test_concurrent_problems_share_the_budget_once(clock):
    budgets = SetBudget(Limits(tokens=100, seconds=100), Limits(), problems=4, max_concurrency=2, clock=clock)
    with budgets.problem() as first, budgets.problem() as second:
        assert (first.limits.tokens, second.limits.tokens) == (25, 25)
        assert first.limits.seconds == 50
        with budgets.problem() as third:
            assert third.limits.tokens == 25
        with budgets.problem() as fourth:
            assert fourth.limits.tokens == 50


def test_budget_shares_never_exceed_the_total(clock):
    budgets = SetBudget(Limits(seconds=10), Limits(), problems=1, max_concurrency=8, clock=clock)
    clock.now = 4
    with budgets.problem() as budget:
        assert budget.limits.seconds == 6
    with budgets.problem() as one_more:  # than was announced
        assert one_more.limits.seconds == 6


@pytest.mark.parametrize(
    "totals, remaining, safe",
    [
        ([], 0, False),
        ([1], 0, True),
        ([5, 1], 3, True),
        ([5, 1], 4, True),  # a tie goes to the one that came first
        ([1, 5], 4, False),
        ([1, 5], 3, True),
        ([2], 3, False),  # an answer that no attempt has given yet
        ([3], 3, True),
        ([5, 1], math.inf, False),
        ([2.5, 0.4], 2, True),
        ([2.5, 0.6], 2, False),
    ],
)
def test_cannot_lose(totals, remaining, safe):
    assert cannot_lose(totals, remaining) is safe


@given(votes=st.lists(st.integers(0, 3), min_size=1, max_size=7), remaining=st.integers(0, 4))
def test_cannot_lose_means_no_continuation_changes_the_majority(votes, remaining):
    numbers = {}
    clusters = [numbers.setdefault(vote, len(numbers)) for vote in votes]
    totals = [clusters.count(name) for name in range(len(numbers))]
    leader = clusters[majority(clusters)]
    continuations = itertools.product(range(len(numbers) + 1), repeat=remaining)
    changed = any((done := [*clusters, *more])[majority(done)] != leader for more in continuations)
    assert cannot_lose(totals, remaining) is not changed


@pytest.mark.parametrize(
    "first, second, probability", [(1, 0, 0.75), (4, 0, 1 - 0.5**5), (3, 3, 0.5), (5, 2, 219 / 256), (1000, 0, 1.0)]
)
def test_lead_probability(first, second, probability):
    assert lead_probability(first, second) == pytest.approx(probability)


def naive_lead(first: int, second: int) -> float:
    draws = first + second + 1
    return sum(math.comb(draws, successes) for successes in range(first + 1)) / 2**draws


def test_lead_probability_is_the_binomial_tail_and_the_votes_needed_are_the_fewest():
    for first, second in itertools.product(range(25), repeat=2):
        assert lead_probability(first, second) == naive_lead(first, second)
    for confidence, second in itertools.product((0.51, 0.75, 0.9, 0.99), range(25)):
        fewest = next(first for first in itertools.count() if naive_lead(first, second) >= confidence)
        assert votes_needed(second, confidence) == fewest


def test_wave_of_a_long_vote_asks_for_few_probabilities():
    """It is looked at for every attempt, in the event loop of all problems."""
    before = lead_probability.cache_info().misses
    for made in range(1, 1024):
        wave(confident(0.987), (made - made // 3, made // 3), 1024 - made)
    assert lead_probability.cache_info().misses - before < 20 * 342, "once for each count of the second"


@pytest.mark.parametrize("first, second", [(4, 1), (9, 6), (20, 2)])
def test_lead_probability_is_the_integral_of_the_paper(first, second):
    grid = [(i + 0.5) / 20_000 for i in range(20_000)]
    density = [p**first * (1 - p) ** second for p in grid]
    assert lead_probability(first, second) == pytest.approx(sum(density[10_000:]) / sum(density), abs=1e-6)


@pytest.mark.parametrize("confidence", [0.5, 1.0, 0.0, math.nan])
def test_invalid_confidence(confidence):
    with pytest.raises(ValueError, match="confidence"):
        confident(confidence)


@pytest.mark.parametrize(
    "totals, stops", [([], False), ([3], False), ([4], True), ([4.9, 0.1], False), ([5, 1], False)]
)
def test_confident(totals, stops):
    assert confident(0.95)(totals, 100) is stops


async def sampled(answers, budget, scores=None, tokens=10, clock=None, seconds=1.0):
    for number, answer in enumerate(answers):
        if clock:
            clock.now += seconds
        budget.spend(tokens)
        yield Attempt(answer, scores[number] if scores else None, tokens)


def run(answers, limits, clock=None, stop=None, rule=majority, scores=None):
    budget = Budget(limits, clock or Clock())
    state = VoteState(lambda first, second: False, rule)
    arguments = (stop,) if stop else ()
    return asyncio.run(decide(sampled(answers, budget, scores, clock=clock), budget, state, *arguments))


@pytest.mark.parametrize(
    "answers, limits, answer, ended, made",
    [
        ([], Limits(), None, "done", 0),
        ([None, None], Limits(), None, "done", 2),
        (["1", "2", "2"], Limits(), "2", "done", 3),
        (["1", "2", "2"], Limits(attempts=0), None, "attempts", 0),
        (["1", "2", "2"], Limits(attempts=2), "1", "attempts", 2),
        (["1", "2", "2"], Limits(tokens=15), "1", "tokens", 2),
        (["1", "2", "2", "2"], Limits(seconds=2.5), "1", "seconds", 3),  # the third came too late to count
    ],
)
def test_best_answer_so_far_is_returned(answers, limits, answer, ended, made, clock):
    decision = run(answers, limits, clock)
    assert (decision.answer, decision.ended, decision.attempts) == (answer, ended, made)
    assert decision.tokens_saved == 0


def test_hanging_attempt_is_dropped_at_the_deadline():
    async def hangs():
        yield Attempt("7", tokens=3)
        await asyncio.sleep(60)
        yield Attempt("8")

    begun = time.monotonic()
    decision = asyncio.run(decide(hangs(), Budget(Limits(seconds=0.2)), VoteState(lambda *pair: False)))
    assert (decision.answer, decision.ended, decision.attempts) == ("7", "seconds", 1)
    assert time.monotonic() - begun < 40


def test_hanging_comparison_is_dropped_at_the_deadline():
    def slow(first, second):
        time.sleep(1)
        return False

    begun = time.monotonic()
    state = VoteState(slow)

    async def bounded():
        budget = Budget(Limits(seconds=0.2))
        decision = await decide(sampled(["7", "8", "9"], budget), budget, state)
        return decision, time.monotonic() - begun

    decision, seconds = asyncio.run(bounded())
    assert (decision.answer, decision.votes, decision.ended) == ("7", (1,), "seconds")
    assert seconds < 0.9


def test_stopping_early_reports_the_tokens_saved():
    decision = run(["7"] * 32, Limits(attempts=32), stop=confident(0.95))
    assert (decision.answer, decision.ended, decision.attempts) == ("7", "early", 4)
    assert decision.tokens_saved == 28 * 10
    decision = run(["7"] * 32, Limits(attempts=32), stop=cannot_lose)
    assert (decision.attempts, decision.tokens_saved) == (16, 160)
    decision = run(["7"] * 32, Limits(attempts=32, tokens=100), stop=confident(0.95))
    assert decision.tokens_saved == 60


def test_best_of_n_and_unbounded_scores_do_not_stop_early():
    answers = ["7"] * 8
    for rule, score, made in [(weighted, 1.0, 4), (best_of_n, 1.0, 8), (weighted, 3.0, 8), (weighted, -0.5, 8)]:
        decision = run(answers, Limits(attempts=8), stop=cannot_lose, rule=rule, scores=[score] * 8)
        assert decision.attempts == made


def test_unscored_attempts_are_counted():
    decision = run(["7", "8", "8"], Limits(), rule=weighted, scores=[0.5, math.nan, []])
    assert (decision.answer, decision.unscored, decision.votes) == ("7", 2, (1, 2))
