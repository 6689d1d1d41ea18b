"""Strategies that make attempts at a problem: the registry, and the plain one, independent attempts.

The others are in `tree_search` and `refine`."""

import asyncio
import math
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncGenerator, Callable

from openrlhf_math.concurrency import end
from openrlhf_math.registry import Registry
from openrlhf_math.rerank.anytime import Attempt
from openrlhf_math.rerank.roles import Lost
from openrlhf_math.rerank.task import Strategy, Task, hands_over
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
