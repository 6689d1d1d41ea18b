"""Beam search and diverse tree search: what they find, what they spend, and what they leave when they are stopped."""

import asyncio
import math
import random
import time
from dataclasses import replace

import pytest
from path_world import PATH, PathSampler, PathScorer, decided, digits_of, task_of

from openrlhf_math.rerank.budget import Limits
from openrlhf_math.rerank.choose import best_of_n, majority
from openrlhf_math.rerank.roles import Completion, RequestError
from openrlhf_math.rerank.strategies import independent
from openrlhf_math.rerank.tree_search import Steps, beam_search, diverse_tree_search

WIDE = Steps(width=8)
SEARCHES = [beam_search, diverse_tree_search]


@pytest.mark.parametrize(
    "strategy, least, most",
    [(independent, 0, 1), (beam_search(WIDE), 12, 20), (diverse_tree_search(WIDE), 12, 20)],
    ids=["independent", "beam", "dvts"],
)
def test_search_solves_what_independent_attempts_miss(strategy, least, most):
    """20 worlds, 32 attempts each; an attempt is right by chance once in 6,561 times."""
    found = 0
    for seed in range(20):
        decision, _ = decided(strategy, task_of(PathSampler(), PathScorer(), seed=seed), best_of_n)
        found += decision.answer == PATH
    assert least <= found <= most


@pytest.mark.parametrize("search", SEARCHES)
def test_every_beam_becomes_an_attempt_and_every_token_is_counted_once(search):
    sampler = PathSampler()
    decision, attempts = decided(search(WIDE), task_of(sampler, PathScorer()), best_of_n)
    assert decision.attempts == 32 and decision.ended == "attempts"
    assert all(attempt.answer == digits_of(attempt.text) for attempt in attempts)
    assert {attempt.tokens for attempt in attempts} == {len(PATH) + 1}
    assert decision.tokens == sampler.tokens == len(sampler.calls)
    assert sampler.most_under_way <= 8


def test_scorer_error_ends_a_beam_search_but_one_tree_of_a_tree_search():
    scorer = PathScorer({"step 1": [0.99]})  # wrong where it comes first
    firsts = {}
    for search in SEARCHES:
        _, attempts = decided(search(Steps(width=2)), task_of(PathSampler(), scorer, Limits(attempts=16)), best_of_n)
        firsts[search] = {digits_of(attempt.text)[0] for attempt in attempts}
    assert firsts[beam_search] == {"1"} and firsts[diverse_tree_search] > {"1"}


def test_same_seed_gives_the_same_attempts():
    texts = [
        sorted(attempt.text for attempt in decided(beam_search(), task_of(PathSampler(), PathScorer()), majority)[1])
        for _ in range(2)
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("search", SEARCHES)
def test_same_seed_gives_the_same_order_whatever_ends_first(search):
    class Unsteady(PathScorer):
        async def score(self, problem, responses):
            await asyncio.sleep(chance.choice((0, 0.001, 0.003)))
            return [
                None if digits_of(text).endswith("22") else one
                for text, one in zip(responses, await super().score(problem, responses), strict=True)
            ]

    class Ends(PathSampler):
        """Some attempts end early, each tree at another depth."""

        def write(self, sampling):
            digits = digits_of(sampling.prefix)
            if random.Random(f"{sampling.seed} {digits}").random() < 0.2:
                return Completion(rf"\boxed{{{digits}}}", 1, "eos")
            return super().write(sampling)

    texts = []
    for number in range(4):
        chance = random.Random(number)
        _, attempts = decided(search(), task_of(Ends(), Unsteady()), majority)
        texts.append([attempt.text for attempt in attempts])
    assert texts[1:] == texts[:1] * 3 and len(set(texts[0])) > 4


def test_duplicates_are_scored_once():
    scorer = PathScorer()
    decided(beam_search(Steps(width=4)), task_of(PathSampler(), scorer), best_of_n)
    first_steps = [text for text in scorer.scored if len(digits_of(text)) == 1]
    assert sorted(first_steps) == sorted(set(first_steps)) and len(first_steps) == 3


@pytest.mark.parametrize("nothing", [None, [], math.nan, [math.nan], [0.9, math.inf]], ids=str)
def test_beam_without_a_score_is_not_preferred(nothing):
    """The scorer fails on one of three first steps: no attempt begins with it."""
    _, attempts = decided(beam_search(WIDE), task_of(PathSampler(), PathScorer({"step 2": nothing})), best_of_n)
    assert len(attempts) == 32 and not any(digits_of(attempt.text)[0] == "2" for attempt in attempts)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("nothing", [None, math.nan])
def test_without_any_score_the_search_still_ends(search, nothing):
    decision, _ = decided(search(), task_of(PathSampler(), PathScorer({"": nothing})), majority)
    assert (decision.attempts, decision.unscored) == (32, 32) and decision.answer


def test_refused_beam_ends_and_others_continue():
    sampler = PathSampler(refuses=lambda prefix: digits_of(prefix) == PATH[:3])
    decision, attempts = decided(beam_search(WIDE), task_of(sampler, PathScorer()), best_of_n)
    cut = [attempt for attempt in attempts if attempt.answer is None]
    assert {digits_of(attempt.text) for attempt in cut} == {PATH[:3]}
    assert decision.attempts == 32 and len(cut) < 32 and decision.answer


@pytest.mark.parametrize("search", SEARCHES)
def test_refused_problem_is_reported(search):
    with pytest.raises(RequestError, match="context"):
        decided(search(), task_of(PathSampler(refuses=lambda prefix: True), PathScorer()), majority)


@pytest.mark.parametrize("search", SEARCHES)
def test_deadline_cancels_running_requests(search):
    sampler = PathSampler(hangs_after=50)
    begun = time.monotonic()
    task = task_of(sampler, PathScorer(), Limits(attempts=32, seconds=0.3))
    decision, attempts = decided(search(WIDE), task, majority)
    assert decision.ended == "seconds" and time.monotonic() - begun < 40
    assert decision.tokens == sampler.tokens > 0
    assert sampler.under_way == 0


def test_closing_early_leaves_no_task():
    async def run():
        sampler = PathSampler()
        attempts = beam_search(Steps(width=2))(task_of(sampler, PathScorer()))
        await anext(attempts)
        await attempts.aclose()
        return sampler.under_way, len(asyncio.all_tasks())

    assert asyncio.run(run()) == (0, 1)


def test_spent_tokens_return_the_current_beams():
    sampler = PathSampler()
    decision, attempts = decided(beam_search(WIDE), task_of(sampler, PathScorer(), Limits(tokens=60)), majority)
    assert decision.ended == "tokens" and decision.answer is None
    assert sampler.tokens == 64  # 16 beams, 4 steps; the limit was reached in the fourth
    assert attempts and all(len(digits_of(attempt.text)) == 4 for attempt in attempts)


@pytest.mark.parametrize("attempts, made", [(0, 0), (1, 1), (3, 3), (10, 10)])
@pytest.mark.parametrize("search", SEARCHES)
def test_attempts_need_not_be_a_multiple_of_the_width(search, attempts, made):
    decision, _ = decided(search(), task_of(PathSampler(), PathScorer(), Limits(attempts=attempts)), majority)
    assert decision.attempts == made


def test_last_step_is_completed():
    sampler = PathSampler()
    decision, attempts = decided(beam_search(Steps(depth=3)), task_of(sampler, PathScorer()), majority)
    assert {attempt.tokens for attempt in attempts} == {len(PATH) + 1} and decision.answer
    assert {call.stop for call in sampler.calls if len(digits_of(call.prefix)) == 2} == {()}


def test_attempt_never_exceeds_its_tokens():
    decision, attempts = decided(
        beam_search(Steps(step_tokens=2)), task_of(PathSampler(), PathScorer(), max_tokens=5), majority
    )
    assert decision.answer is None and {attempt.tokens for attempt in attempts} == {5}


class Nothing(PathSampler):
    def write(self, sampling):
        return Completion("", 0, "length")


class Separators(PathSampler):
    def write(self, sampling):
        return Completion("\n\n", 1, "stop")


@pytest.mark.parametrize("sampler", [Nothing, Separators])
def test_search_depth_is_limited(sampler):
    sampler = sampler()
    decision, _ = decided(beam_search(Steps(depth=5)), task_of(sampler, PathScorer()), majority)
    assert decision.answer is None and len(sampler.calls) <= 5 * 32


@pytest.mark.parametrize("values", [{"width": 0}, {"depth": 0}, {"step_tokens": 0}, {"separator": ""}])
def test_invalid_steps(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Steps(**values)


class Tells(PathSampler):
    """Writes pieces one after the other up to the first stop text, a token each; then the turn ends."""

    pieces = ("a\n\n", "b\n\n", "Problem: c\n\n", r"\boxed{1}")

    def write(self, sampling):
        left, text = list(self.pieces[sampling.prefix.count("\n\n") :]), ""
        for tokens, piece in enumerate(left, start=1):
            text += piece
            ends = [text.find(one) + len(one) for one in sampling.stop if one in text]
            if ends:
                return Completion(text[: min(ends)], tokens, "stop")
            if tokens == sampling.max_tokens:
                return Completion(text, tokens, "length" if piece is not left[-1] else "eos")
        return Completion(text, len(left), "eos")


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(
    "most, depth, stop, finished, text",
    [
        (100, 40, (), "eos", "".join(Tells.pieces)),
        (100, 2, (), "eos", "".join(Tells.pieces)),
        (3, 40, (), "length", "".join(Tells.pieces[:3])),
        (3, 1, (), "length", "".join(Tells.pieces[:3])),
        (100, 40, ("\n\nProblem:",), "stop", "a\n\nb\n\nProblem:"),
        (100, 40, ("b\n\n", "1"), "stop", "a\n\nb\n\n"),
        (100, 40, ("\n\n",), "stop", "a\n\n"),
        (100, 1, ("\n\n",), "stop", "a\n\n"),
        (100, 40, ("Prob",), "stop", "a\n\nb\n\nProb"),
    ],
)
def test_search_ends_where_one_completion_would_and_says_why(search, most, depth, stop, finished, text):
    """What ends an attempt does not depend on its being written in steps."""
    task = task_of(Tells(), PathScorer(), Limits(attempts=1), max_tokens=most)
    turn = task.turn
    task = replace(task, turn=lambda number: replace(turn(number), sampling=replace(turn(number).sampling, stop=stop)))
    _, (attempt,) = decided(search(Steps(depth=depth)), task, majority)
    assert (attempt.text, attempt.finished) == (text, finished)


def test_beam_that_is_refused_or_not_continued_was_cut_off():
    for limits, refuses in (
        (Limits(attempts=4), lambda prefix: len(digits_of(prefix)) == 3),
        (Limits(tokens=6, attempts=4), lambda prefix: False),
    ):
        _, attempts = decided(beam_search(), task_of(PathSampler(refuses), PathScorer(), limits), majority)
        assert {attempt.finished for attempt in attempts} <= {"length"}
