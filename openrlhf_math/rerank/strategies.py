"""Strategies that make attempts at a problem: the registry, and the plain one, independent attempts.

The others are in `tree_search` and `refine`."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable

from openrlhf_math.concurrency import end
from openrlhf_math.registry import Registry
from openrlhf_math.rerank.anytime import Attempt
from openrlhf_math.rerank.roles import Lost
from openrlhf_math.rerank.task import Strategy, Task
from openrlhf_math.rerank.tree_search import Steps, beam_search, diverse_tree_search

LOST = "lost"  # why an attempt ended that brought nothing


async def independent(task: Task) -> AsyncGenerator[Attempt, None]:
    """As many attempts as the budget allows, and no more at once than it wants; one begins when another ends. Those
    under way are cancelled on closing.

    An attempt that is lost is one without an answer. Raises RequestError if the sampler refuses the problem,
    and Lost if all attempts are lost.
    """
    under_way: set[asyncio.Task] = set()
    number = lost = 0
    try:
        while True:
            while len(under_way) < _room(task) and task.budget.begin():
                under_way.add(asyncio.create_task(_attempt(task, number), name=f"{number:09}"))
                number += 1
            if not under_way:
                return
            done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for one in sorted(done, key=asyncio.Task.get_name):
                # Those after it stay: if this one raises, their exceptions are retrieved below.
                under_way.remove(one)
                try:
                    attempt = one.result()
                except Lost:
                    lost += 1
                    if lost == task.budget.limits.attempts:
                        raise
                    attempt = Attempt(None, finished=LOST)
                    if task.floor:
                        task.floor.note(None)
                yield attempt
    finally:
        await end(under_way)


def _room(task: Task) -> float:
    """Attempts that may be under way."""
    return min(task.max_concurrency, task.budget.wanted, task.floor.room() if task.floor else math.inf)


async def _attempt(task: Task, number: int) -> Attempt:
    turn = task.turn(number)
    return await task.judged(turn, [await task.sampler.complete(turn.messages, turn.sampling)])


STRATEGIES: Registry[Callable[[Steps], Strategy]] = Registry(
    {"independent": lambda steps: independent, "beam": beam_search, "dvts": diverse_tree_search}
)


def find_strategy(name: str) -> Callable[[Steps], Strategy]:
    """A known one, or a user's own by dotted path: from `Steps` to a `Strategy`. Raises UserError if there is
    none."""
    return STRATEGIES.find("--strategy", name)
