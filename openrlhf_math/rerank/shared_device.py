"""A sampler and a scorer that share a device: one works, the other sleeps in CPU memory."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from typing import Protocol

from openrlhf_math.rerank.aggregate import Scores
from openrlhf_math.rerank.roles import Completion, Messages, Sampler, Sampling, Scorer


class Sleeper(Protocol):
    """An engine, or several, that can leave the device."""

    async def sleep(self) -> None: ...

    async def wake_up(self) -> None: ...


class SharedDevice:
    """Gives the device to one side at a time; requests of the other wait until those under way are done.

    A side that waits is next: what comes after that for the side at work waits in turn. So attempts are generated
    together, then scored together.

    sides: who shares it. awake: which of them are awake at first. switches, seconds: changes so far and what they took.
    """

    def __init__(self, sides: Sequence[Sleeper], awake: Iterable[int]) -> None:
        self._sides = list(sides)
        self._awake = set(awake)
        self._holder: int | None = None
        self._at_work = 0
        self._waiting = [0] * len(self._sides)
        self._changed = asyncio.Condition()
        self.switches, self.seconds = 0, 0.0

    @contextlib.asynccontextmanager
    async def turn(self, side: int) -> AsyncIterator[None]:
        """The device is this side's while the block runs, with others of the side."""
        async with self._changed:
            self._waiting[side] += 1
            try:
                await self._changed.wait_for(lambda: self._may_enter(side))
                if self._holder != side:
                    await _to_its_end(self._switch(side))
                self._at_work += 1
            finally:
                self._waiting[side] -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            async with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def _may_enter(self, side: int) -> bool:
        if self._holder == side:
            return not any(self._waiting[other] for other in self._others(side))
        return self._at_work == 0

    def _others(self, side: int) -> list[int]:
        return [other for other in range(len(self._sides)) if other != side]

    async def _switch(self, side: int) -> None:
        started = time.perf_counter()
        for other in self._others(side):
            if other in self._awake:
                await self._sides[other].sleep()
                self._awake.remove(other)
        if side not in self._awake:
            await self._sides[side].wake_up()
            self._awake.add(side)
        self._holder = side
        self.switches += 1
        self.seconds += time.perf_counter() - started


async def _to_its_end(change: Coroutine) -> None:
    """Half a change would leave nobody knowing who is awake: whoever is cancelled meanwhile sees it through first."""
    task = asyncio.create_task(change)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


class SharingSampler:
    """A sampler that waits for its turn on the device; see `roles.Sampler`."""

    def __init__(self, sampler: Sampler, device: SharedDevice, side: int) -> None:
        self._sampler, self._device, self._side = sampler, device, side

    async def complete(self, messages: Messages, sampling: Sampling) -> Completion:
        async with self._device.turn(self._side):
            return await self._sampler.complete(messages, sampling)


class SharingScorer:
    """A scorer that waits for its turn on the device; see `roles.Scorer`."""

    def __init__(self, scorer: Scorer, device: SharedDevice, side: int) -> None:
        self._scorer, self._device, self._side = scorer, device, side

    async def score(self, problem: str, responses: Sequence[str]) -> list[Scores]:
        async with self._device.turn(self._side):
            return await self._scorer.score(problem, responses)
