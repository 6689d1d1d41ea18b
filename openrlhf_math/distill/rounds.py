"""How many attempts a problem gets: `attempts` at first, then twice as many in all, and again, until one is correct.

The rounds depend on the outcomes alone, not on time or order: a resumed run asks what an uninterrupted one would.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from openrlhf_math.distill.questions import Task
from openrlhf_math.side_by_side import side_by_side

Item = tuple[Task, int]  # an attempt at a problem, counted from 0


def next_round(had: int, most: int, solved: bool, lost: bool) -> range:
    """The attempts that follow the first `had`, all of which have ended; empty if the problem is done.

    solved: whether one was correct. lost: whether one brought no reply. A lost attempt is asked again by the next run,
    and may be correct then: until that is known, the problem gets no further round.
    """
    return range(had, had if solved or lost else min(2 * had, most))


async def work_through(
    items: Iterable[Item], work: Callable[[Task, int], Awaitable[Sequence[Item]]], workers: int
) -> None:
    """Do the work for every item, `workers` of them at a time, and for the items that work returns, before others.

    The first exception ends all.
    """
    left: Iterator[Item] = iter(items)
    further: deque[Item] = deque()
    busy, news = 0, asyncio.Event()

    async def worker() -> None:
        nonlocal busy
        while True:
            while (item := further.popleft() if further else next(left, None)) is None:
                if not busy:
                    return
                news.clear()
                await news.wait()
            busy += 1
            more = await work(*item)
            busy -= 1
            further.extend(more)
            if more or not busy:
                news.set()

    await side_by_side(worker() for _ in range(workers))
