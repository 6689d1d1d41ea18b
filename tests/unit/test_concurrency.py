"""Coroutines that run at once: their results, their first failure, and what becomes of the others."""

import asyncio
import gc

import pytest

from openrlhf_math.concurrency import closing, end, gather, within


async def later(value: int) -> int:
    await asyncio.sleep(0.01 * (3 - value))
    return value


def test_results_are_in_the_order_of_the_work():
    assert asyncio.run(gather(later(value) for value in range(3))) == [0, 1, 2]
    assert asyncio.run(gather([])) == []


def test_failure_ends_the_others_and_leaves_nothing_to_log():
    ended, logged = [], []

    async def waits(number: int) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(number)

    async def fails(number: int) -> None:
        raise ValueError(number)

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: logged.append(context))
        with pytest.raises(ValueError, match="1"):
            await gather([waits(0), fails(1), fails(2), waits(3)])
        assert sorted(ended) == [0, 3]
        gc.collect()

    asyncio.run(run())
    assert logged == []


def test_close_waits_for_running_tasks():
    cleaned = []

    async def slow_to_end() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.02)
            cleaned.append(True)

    async def run() -> None:
        task = asyncio.ensure_future(slow_to_end())
        await asyncio.sleep(0)
        await end([task])
        assert task.cancelled()

    asyncio.run(run())
    assert cleaned == [True]


def test_generator_closes_despite_repeated_cancellation():
    """As anyio does when a client leaves: at every step, until the reader has ended."""
    ended, logged = [], []

    async def numbers():
        try:
            for number in range(10):
                yield number
                await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.05)
            ended.append(True)

    async def reads() -> None:
        async with closing(numbers()) as generator:
            while True:
                await within(60, anext(generator))

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: logged.append(context))
        task = asyncio.ensure_future(reads())
        await asyncio.sleep(0.01)
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()
        del task
        for _ in range(100):
            await asyncio.sleep(0.01)
            gc.collect()
            if len(asyncio.all_tasks()) == 1:
                break

    asyncio.run(run())
    assert ended == [True] and logged == []
