"""Concurrent coroutines: the first failure cancels the others, and none is left running.

Every wait here is bounded: code that refuses to be cancelled is left behind after PATIENCE_SECONDS, with a warning.
"""

import asyncio
import contextlib
import logging
import math
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, ParamSpec, TypeVar

PATIENCE_SECONDS = 5.0  # for what was cancelled to end
LOOK_SECONDS = 0.01


Result = TypeVar("Result")
Given = ParamSpec("Given")
Item = TypeVar("Item")


async def gather(work: Iterable[Awaitable[Result]]) -> list[Result]:
    """What they return, in their order. The first failure is raised, when the others are cancelled and have ended."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await end(tasks)


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel what has not ended, and wait until it has.

    What the tasks raise is retrieved: asyncio logs an exception that is not retrieved, with its traceback.
    """
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
        task.add_done_callback(_retrieve)
    if not tasks:
        return
    _, stubborn = await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)
    for task in stubborn:
        logging.warning("%s was cancelled and has not ended in %s s; it is left behind", task, PATIENCE_SECONDS)


async def within(seconds: float, work: Awaitable[Result], unless: asyncio.Event | None = None) -> Result:
    """What `work` gives. After so many seconds, or when `unless` is set, it is cancelled. math.inf: no limit.

    Unlike `asyncio.wait_for` this also returns if the work refuses to be cancelled. Raises TimeoutError.
    """
    task = asyncio.ensure_future(work)
    tasks: list[asyncio.Future[Any]] = [task, *([asyncio.ensure_future(unless.wait())] if unless else [])]
    try:
        timeout = None if math.isinf(seconds) else max(seconds, 0)
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        await end(tasks)


async def in_thread(function: Callable[Given, Result], *args: Given.args, **keywords: Given.kwargs) -> Result:
    """What a function returns that may take long, or for ever, without the event loop waiting for it.

    It has its own thread that ends with the process: one that hangs takes no thread of a pool from others.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(set_outcome: Callable[[], None]) -> None:
        if not future.done():
            set_outcome()

    def run() -> None:
        try:
            set_outcome = partial(future.set_result, function(*args, **keywords))
        except BaseException as error:  # the waiter gets it
            set_outcome = partial(future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed, and there is no waiter
            loop.call_soon_threadsafe(settle, set_outcome)

    threading.Thread(target=run, daemon=True, name=f"in_thread {function}").start()
    return await future


@contextlib.asynccontextmanager
async def closing(generator: AsyncGenerator[Item, None]) -> AsyncIterator[AsyncGenerator[Item, None]]:
    """`contextlib.aclosing`, for a generator that may refuse to be closed. Cancelled, again and again as anyio does, it
    closes the generator nevertheless."""
    try:
        yield generator
    finally:
        task = asyncio.ensure_future(_close(generator))
        task.add_done_callback(_retrieve)
        _CLOSING.add(task)
        task.add_done_callback(_CLOSING.discard)
        await asyncio.wait([task], timeout=PATIENCE_SECONDS)
        await end([task])


_CLOSING: set[asyncio.Future[None]] = set()  # or they might be collected before they have ended


async def _close(generator: AsyncGenerator[Any, None]) -> None:
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        while getattr(generator, "ag_running", False):  # what reads it was cancelled, and ends
            await asyncio.sleep(LOOK_SECONDS)
        await generator.aclose()


def _retrieve(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
