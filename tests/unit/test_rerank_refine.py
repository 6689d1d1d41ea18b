"""Refinement: a rewrite counts if its score rises; what else the model writes costs tokens and nothing more."""

import math

import pytest
from path_world import PathSampler, PathScorer, decided, task_of

from openrlhf_math.rerank.budget import Limits
from openrlhf_math.rerank.choose import best_of_n
from openrlhf_math.rerank.roles import Completion, Lost, RequestError
from openrlhf_math.rerank.strategies import CRITIQUE, REFINED, REWRITE, independent, refined
from openrlhf_math.rerank.tree_search import beam_search


class Writer:
    """Writes `drafts` as attempts, a critique where it is asked for one, and `rewrites` after that."""

    def __init__(self, drafts, rewrites):
        self.drafts, self.rewrites, self.asked = list(drafts), list(rewrites), []

    async def complete(self, messages, sampling):
        wanted = messages[-1]["content"] if messages else "attempt"
        self.asked.append(messages)
        if wanted == CRITIQUE:
            return Completion("step 1 is wrong", 100, "eos")
        text = (self.rewrites if wanted == REWRITE else self.drafts).pop(0)
        if isinstance(text, Exception):
            raise text
        return Completion(text, 10, "eos")


class Judge:
    """Knows what each answer is worth."""

    def __init__(self, **worth):
        self.worth = worth

    async def score(self, problem, responses):
        return [next((score for name, score in self.worth.items() if name in text), 0.0) for text in responses]


DRAFTS = [r"\boxed{bad}", r"\boxed{fair}"]
JUDGE = Judge(
    bad=[0.1], fair=[0.5], good=[0.7], better=[0.8], nothing=[0.9], nan=[math.nan], none=None, infinite=math.inf
)


def run(rewrites, passes=2, drafts=DRAFTS, attempts=4, judge=JUDGE):
    writer = Writer(drafts, rewrites)
    task = task_of(writer, judge, Limits(attempts=attempts))
    return *decided(refined(independent, passes), task, best_of_n), writer


@pytest.mark.parametrize(
    "rewrites, answer, counted",
    [
        ([r"\boxed{good}", r"\boxed{better}"], "better", 4),
        ([r"\boxed{better}", r"\boxed{good}"], "better", 3),  # the second is no better than the first
        ([r"\boxed{bad}", r"\boxed{good}"], "good", 3),
        ([r"\boxed{bad}", r"\boxed{bad}"], "fair", 2),
        ([r"\boxed{fair}", r" \boxed{fair} "], "fair", 2),  # the same text
        ([r"so \boxed{fair}", r"thus \boxed{fair}"], "fair", 2),  # the same score
        (["nothing in a box", r"\boxed{}"], "fair", 2),
        ([r"\boxed{nan}", r"\boxed{none}"], "fair", 2),
        ([r"\boxed{infinite}", ""], "fair", 2),
        ([RequestError("too long"), r"\boxed{good}"], "fair", 2),
        ([Lost("no reply"), r"\boxed{good}"], "good", 3),
        ([Lost("no reply"), Lost("no reply")], "fair", 2),
    ],
)
def test_rewrite_counts_if_its_score_rises(rewrites, answer, counted):
    decision, attempts, _ = run(rewrites)
    assert (decision.answer, decision.attempts) == (answer, counted)
    assert [attempt.by == REFINED for attempt in attempts] == [False] * 2 + [True] * (counted - 2)


def test_tokens_of_discarded_rewrites_are_counted():
    decision, attempts, _ = run([r"\boxed{bad}", r"\boxed{good}"])
    assert decision.tokens == 2 * 10 + 2 * (100 + 10)
    assert [attempt.tokens for attempt in attempts] == [10, 10, 10]


def test_pass_shows_the_best_attempt_and_critique():
    _, _, writer = run([r"\boxed{good}", r"\boxed{better}"])
    first, second = [asked for asked in writer.asked if asked and asked[-1]["content"] == REWRITE]
    assert [message["content"] for message in first] == [r"\boxed{fair}", CRITIQUE, "step 1 is wrong", REWRITE]
    assert second[0] == {"role": "assistant", "content": r"\boxed{good}"}


def test_best_negative_score_is_refined_and_nan_is_not_an_improvement():
    judge = Judge(bad=-3.0, fair=-1.0, nan=math.nan, good=-0.5)
    decision, attempts, _ = run([r"\boxed{nan}", r"\boxed{good}"], judge=judge)
    assert (decision.answer, len(attempts)) == ("good", 3)


@pytest.mark.parametrize("drafts, asked", [(["no answer", "none either"], 2), ([r"\boxed{fair}", "no answer"], 2 + 4)])
def test_without_an_answer_there_is_nothing_to_refine(drafts, asked):
    _, _, writer = run([r"\boxed{good}", r"\boxed{better}"], drafts=drafts)
    assert len(writer.asked) == asked


@pytest.mark.parametrize("attempts, drafts, rewrites", [(0, 0, 0), (1, 1, 0), (2, 1, 1), (3, 1, 2), (5, 3, 2)])
def test_passes_take_the_place_of_attempts(attempts, drafts, rewrites):
    better = [r"\boxed{good}", r"\boxed{better}"]
    decision, made, _ = run(better, drafts=[r"\boxed{fair}"] * 3, attempts=attempts)
    assert len(made) == attempts == drafts + rewrites
    assert sum(attempt.by == REFINED for attempt in made) == rewrites


def test_tokens_of_a_search_before_it_are_counted_too():
    sampler = PathSampler()
    task = task_of(sampler, PathScorer(), Limits(attempts=17))
    decision, attempts = decided(refined(beam_search(), 1), task, best_of_n)
    assert decision.tokens == sampler.tokens > 0 and len(attempts) >= 16


def test_invalid_passes():
    with pytest.raises(ValueError, match="passes"):
        refined(independent, 0)
