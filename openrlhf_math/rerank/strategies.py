"""Strategies that make attempts at a problem: independent attempts, refinement of the best, and the registry.

`tree_search` has beam search and diverse verifier tree search."""

import asyncio
import math
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from openrlhf_math.concurrency import closing, end
from openrlhf_math.registry import Registry
from openrlhf_math.rerank.aggregate import Aggregation, aggregate, last
from openrlhf_math.rerank.anytime import Attempt
from openrlhf_math.rerank.budget import Budget, Limits
from openrlhf_math.rerank.roles import Lost, RequestError
from openrlhf_math.rerank.task import Strategy, Task, does_hand_over, hands_over
from openrlhf_math.rerank.tree_search import Steps, beam_search, diverse_tree_search

LOST = "lost"  # why an attempt ended that brought nothing


@hands_over
async def independent(task: Task) -> AsyncGenerator[Attempt, None]:
    """As many attempts as the budget allows, and no more at once than it wants; one begins when another ends. Those
    under way are cancelled on closing.

    With a seed they come in the order of their numbers, or what is counted before a vote ends would depend on which
    ended first, and two runs would differ. Those that are done wait in `budget.waiting`, and more begin only when one
    is counted.

    An attempt that is lost is one without an answer. Raises RequestError if the sampler refuses the problem,
    and Lost if all attempts are lost.
    """
    under_way: dict[int, asyncio.Task[None]] = {}  # those that are not counted yet
    waiting = task.budget.waiting
    in_order = task.turn(0).sampling.seed is not None
    begun = due = lost = 0

    def begin() -> None:
        nonlocal begun
        while len(under_way) < _room(task) and task.budget.begin():
            under_way[begun] = asyncio.create_task(_attempt(task, begun))
            begun += 1

    try:
        begin()
        while under_way:
            await asyncio.wait(
                [under_way[number] for number in under_way.keys() - waiting], return_when=FIRST_COMPLETED
            )
            for number in [number for number, one in under_way.items() if one.done() and number not in waiting]:
                try:
                    under_way[number].result()
                except Lost:
                    lost += 1
                    if lost == task.budget.limits.attempts:
                        raise
                    waiting[number] = Attempt(None, finished=LOST)
                    if task.floor:
                        task.floor.note(None)
            while waiting and (due in waiting or not in_order):
                number = due if in_order else min(waiting)
                del under_way[number]
                yield waiting.pop(number)
                due += 1
                begin()
    finally:
        await end(under_way.values())


def _room(task: Task) -> float:
    """Attempts that may be under way."""
    return min(task.max_concurrency, task.budget.wanted, task.floor.room() if task.floor else math.inf)


async def _attempt(task: Task, number: int) -> None:
    """Make it, and put it into `Budget.waiting`."""
    turn = task.turn(number)
    completion = await task.sampler.complete(turn.messages, turn.sampling)
    task.budget.waiting[number] = await task.judged(turn, [completion])


STRATEGIES: Registry[Callable[[Steps], Strategy]] = Registry(
    {"independent": lambda steps: independent, "beam": beam_search, "dvts": diverse_tree_search}
)


def find_strategy(name: str) -> Callable[[Steps], Strategy]:
    """A known one, or a user's own by dotted path: from `Steps` to a `Strategy`. Raises UserError if there is
    none."""
    return STRATEGIES.find("--strategy", name)


# Refinement: the best attempt is criticised and written again. Critique and rewrite are the sampler's own, as in
# Self-Refine, https://arxiv.org/abs/2303.17651. Models are poor judges of their own corrections
# (https://arxiv.org/abs/2310.01798), so here the scorer is the judge.
CRITIQUE = (
    "Check the solution above step by step. Name the first step that is wrong and say why it is, or say that every "
    "step is right and what could be clearer. Do not write the solution again yet."
)
REWRITE = (
    "Now write the whole solution again, with the mistakes you found put right. Give the final answer in the same form "
    "as the problem asked for."
)
REFINED = "refined"


def refined(first: Strategy, passes: int, aggregation: Aggregation = last) -> Strategy:
    """The attempts of `first`, then so many passes over the best of them; each takes the place of one attempt.

    A rewrite is a separate attempt, by REFINED, if it has an answer, another text, and a score above the best so
    far; the next pass then starts from it. Else nothing remains of it but its tokens, and the next pass tries again.
    Passes end where the sampler refuses, since an attempt and its critique fill the context. Where the budget sets no
    number of attempts nothing is kept back for them: they are made if `first` ends by itself.

    The strategy needs a scorer. Raises ValueError if passes < 1.
    """
    if passes < 1:
        raise ValueError(f"{passes} passes of refinement, there must be at least 1")

    async def strategy(task: Task) -> AsyncGenerator[Attempt, None]:
        if task.scorer is None:
            raise ValueError("refinement needs a scorer")
        made: list[Attempt] = []
        async with closing(_first(first, task, passes)) as attempts:
            async for attempt in attempts:
                made.append(attempt)
                yield attempt
        best = _best(made, aggregation)
        for number in range(len(made), len(made) + passes):
            if best is None or not task.budget.begin():
                return
            try:
                rewrite = await _rewritten(task, number, best)
            except Lost:
                continue
            except RequestError:
                return
            if _better(rewrite, best, aggregation):
                best = rewrite
                yield rewrite

    return hands_over(strategy, does_hand_over(first))


async def _first(first: Strategy, task: Task, passes: int) -> AsyncGenerator[Attempt, None]:
    """The attempts of `first`, which sees a budget without those kept back."""
    limits = task.budget.limits
    attempts = None if limits.attempts is None else max(limits.attempts - passes, min(limits.attempts, 1))
    budget = Budget(
        Limits(tokens=limits.tokens, attempts=attempts)
    )  # the caller that takes attempts enforces the seconds
    budget.wanted, budget.waiting = task.budget.wanted, task.budget.waiting
    try:
        async with closing(first(replace(task, budget=budget))) as made:
            async for attempt in made:
                budget.count()
                task.budget.begun = budget.begun
                yield attempt
                budget.wanted = task.budget.wanted
    finally:
        task.budget.begun = budget.begun


def _best(attempts: list[Attempt], aggregation: Aggregation) -> Attempt | None:
    """The one with an answer and the highest score, the earliest of several."""
    scores, _ = aggregate([attempt.scores for attempt in attempts], aggregation)
    answered = [number for number, attempt in enumerate(attempts) if attempt.answer is not None]
    number = max(answered, key=scores.__getitem__, default=None)
    return None if number is None else attempts[number]


async def _rewritten(task: Task, number: int, best: Attempt) -> Attempt:
    turn = task.turn(number)
    sampling = replace(turn.sampling, prefix="")
    messages = [*turn.messages, {"role": "assistant", "content": best.text}, {"role": "user", "content": CRITIQUE}]
    critique = await task.sampler.complete(messages, replace(sampling, watch=None))
    messages = [*messages, {"role": "assistant", "content": critique.text}, {"role": "user", "content": REWRITE}]
    rewrite = await task.sampler.complete(messages, sampling)
    return await task.judged(replace(turn, messages=messages, sampling=sampling, by=REFINED), [rewrite])


def _better(rewrite: Attempt, best: Attempt, aggregation: Aggregation) -> bool:
    (new, old), _ = aggregate([rewrite.scores, best.scores], aggregation)
    return rewrite.answer is not None and rewrite.text.strip() != best.text.strip() and new > old
