"""Health is said at once, whatever the solver does."""

import asyncio
import time

import pytest

from openrlhf_math.rerank.roles import Unavailable
from openrlhf_math.serving.app import Health


def test_result_matches_the_check():
    wrong = []

    async def check():
        if wrong:
            raise Unavailable(wrong[0])

    async def run():
        health = Health(check, 60)
        await health.say()
        wrong.append("dead")
        with pytest.raises(Unavailable, match="dead"):
            await health.say()
        wrong.clear()
        await health.say()

    asyncio.run(run())


def test_slow_check_runs_once_without_blocking():
    checks = []
    free = asyncio.Event()

    async def check():
        checks.append(1)
        if len(checks) > 1:
            await free.wait()
            raise Unavailable("dead")

    async def run():
        health = Health(check, 60)
        await health.say()
        begun = time.monotonic()
        for _ in range(3):
            with pytest.raises(Unavailable, match="not answered"):  # the good answer before says nothing about now
                await health.say()
        assert time.monotonic() - begun < 30
        free.set()
        with pytest.raises(Unavailable, match="dead"):
            await health.say()

    asyncio.run(run())
    assert len(checks) == 2


def test_silent_solver_is_unavailable():
    async def check():
        await asyncio.sleep(3600)

    async def run():
        health = Health(check, 0.05)
        with pytest.raises(Unavailable, match="not answered"):
            await health.say()

    asyncio.run(run())
