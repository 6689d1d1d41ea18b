"""Coroutines that run at once: the first failure ends the others, and none of them is left behind."""

import asyncio
from collections.abc import Awaitable, Iterable


async def side_by_side(work: Iterable[Awaitable]) -> list:
    """What they return, in their order. The first failure is raised, when the others are cancelled and have ended."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await end(tasks)


async def end(tasks: Iterable[asyncio.Future]) -> None:
    """Cancel what has not ended, and wait until it has.

    What the tasks raise is retrieved: asyncio logs an exception that nobody retrieves, with its traceback.
    """
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
