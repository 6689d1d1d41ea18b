"""Solving a problem: attempts by a strategy, counted as they come, one answer within the budget."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from openrlhf_math.concurrency import within
from openrlhf_math.data.prompts import with_instruction
from openrlhf_math.rerank.aggregate import Aggregation, last
from openrlhf_math.rerank.answer_clusters import GraderSays
from openrlhf_math.rerank.anytime import Attempt, Decision, VoteState, decide
from openrlhf_math.rerank.budget import Budget
from openrlhf_math.rerank.choose import Rule, asks, majority, needs_confidence
from openrlhf_math.rerank.confidence import ByConfidence, Floor
from openrlhf_math.rerank.early_stop import Stop, cannot_lose
from openrlhf_math.rerank.genselect import HELD, GenSelect, Selection, candidates
from openrlhf_math.rerank.roles import RequestError, Sampler, Sampling, Scorer
from openrlhf_math.rerank.strategies import independent
from openrlhf_math.rerank.task import Strategy, Task, Turn, does_hand_over, seed_of
from openrlhf_math.rewards import GradingPool

Turns = Callable[[str], Callable[[int], Turn]]

MAX_CONCURRENCY = 256


def one_solver(instruction: str, sampling: Sampling) -> Turns:
    """Every attempt is asked for in the same way, each with its own seed if there is one.

    instruction: appended to the problem.
    """

    def turns(problem: str) -> Callable[[int], Turn]:
        text = with_instruction(problem, instruction)
        messages = [{"role": "user", "content": text}]

        def turn(number: int) -> Turn:
            return Turn(messages, replace(sampling, seed=seed_of(sampling.seed, problem, number)))

        return turn

    return turns


@dataclass(frozen=True, slots=True)
class Method:
    """How a problem is solved.

    turns            from a problem, and the number of an attempt, to how it is asked for
    strategy         how attempts are made
    rule             which of them is chosen
    aggregation      what makes one score of step scores
    stop             when more attempts are not needed
    max_concurrency  attempts at one problem under way at the same time; None: as many as could end the vote if all of
                     them agreed with its leader, see `early_stop.wave`, and at most MAX_CONCURRENCY
    style            where the answer is in a completion, see `RewardConfig`
    confidence       how the model's confidence is measured and used, where the rule reads it or `ByConfidence.needed`
    select           how a model is asked to choose, by a rule that asks one
    """

    turns: Turns
    strategy: Strategy = independent
    rule: Rule = majority
    aggregation: Aggregation = last
    stop: Stop = cannot_lose
    max_concurrency: int | None = None
    style: str = "boxed"
    confidence: ByConfidence = ByConfidence()
    select: GenSelect = GenSelect()


@dataclass(frozen=True, slots=True)
class Solution:
    """The answer to a problem, and all it rests on.

    text      the chosen attempt, "" if none has an answer
    attempts  in the order in which they were counted
    answer_clusters   of every attempt, which answer it gives, see `answer_clusters.group`; None without an answer
    scores    of every attempt, aggregated; an attempt without one has the lowest
    voting    the same without the attempts that had no vote, see `confidence.surest`
    weights   of every attempt, what the rule read: its score, or the confidence in it
    scored    whether there was a scorer
    seconds   from the first request to the decision
    """

    problem: str
    answer: str | None
    text: str
    decision: Decision
    attempts: tuple[Attempt, ...]
    answer_clusters: tuple[int | None, ...]
    scores: tuple[float, ...]
    voting: tuple[int | None, ...]
    weights: tuple[float, ...]
    scored: bool
    seconds: float


class Solver:
    """Solves problems, as many at once as it is asked to, with one sampler, one scorer and one grading pool."""

    def __init__(self, sampler: Sampler, scorer: Scorer | None, pool: GradingPool) -> None:
        self._sampler, self._scorer, self._pool = sampler, scorer, pool

    async def solve(
        self, problem: str, method: Method, budget: Budget, counted: Callable[[VoteState], None] = lambda state: None
    ) -> Solution:
        """The best answer the budget allows; at its deadline, the best so far.

        counted: called with every attempt when it is counted. Cancelling this cancels all that is under way.
        Raises RequestError for an empty problem, or one the sampler refuses.
        """
        if not problem.strip():
            raise RequestError("the problem is empty")
        started = time.perf_counter()
        by, turn = method.confidence, method.turns(problem)
        floor = Floor(by.warm_up, by.keep) if by.warm_up else None
        if by.needed or needs_confidence(method.rule):
            turn = _watched(turn, by, floor)
        task = Task(
            problem=problem,
            turn=turn,
            sampler=self._sampler,
            scorer=self._scorer,
            budget=budget,
            max_concurrency=method.max_concurrency or MAX_CONCURRENCY,
            style=method.style,
            floor=floor,
        )
        state = VoteState(GraderSays(self._pool, problem), method.rule, method.aggregation, by)
        budget.hold(HELD if asks(method.rule) else 0.0)
        decision = await decide(
            method.strategy(task), budget, state, method.stop, counted, waves=method.max_concurrency is None,
            late=does_hand_over(method.strategy),
        )  # fmt: skip
        if asks(method.rule):
            budget.hold(0.0)
            decision = await _selected(decision, task, state, method.select)
        return Solution(
            problem=problem,
            answer=decision.answer,
            text="" if decision.attempt is None else state.attempts[decision.attempt].text,
            decision=decision,
            attempts=tuple(state.attempts),
            answer_clusters=tuple(state.answer_clusters),
            scores=tuple(state.scores),
            voting=tuple(state.voting),
            weights=tuple(state.weights),
            scored=self._scorer is not None,
            seconds=time.perf_counter() - started,
        )


async def _selected(decision: Decision, task: Task, state: VoteState, how: GenSelect) -> Decision:
    """The decision with what a model chooses, within what the budget has left; the majority where it names nothing."""
    budget, attempts = task.budget, state.attempts
    among = candidates(state.voting, [one.answer for one in attempts], [one.text for one in attempts])
    chosen = None
    if len(among) > 1 and not budget.stopped.is_set() and budget.seconds_left() > 0:
        selection = Selection(task.problem, task.sampler, task.turn(0).sampling, how, budget.tokens_left)
        with contextlib.suppress(TimeoutError):
            chosen = await within(budget.seconds_left(), selection.choose(among), budget.stopped)
    decision = replace(decision, tokens=budget.tokens, by_model=bool(chosen and chosen.by_model))
    if chosen is None:
        return decision
    return replace(decision, attempt=chosen.number, answer=attempts[chosen.number].answer)


def _watched(turn: Callable[[int], Turn], by: ByConfidence, floor: Floor | None) -> Callable[[int], Turn]:
    """The same turns, with the model's confidence measured; with the floor, as far as it is known by then."""

    def watched(number: int) -> Turn:
        one = turn(number)
        watch = by.watch(floor.value if floor else None)
        return replace(one, sampling=replace(one.sampling, watch=watch))

    return watched
