"""A sampler and a scorer that take turns on one device."""

import asyncio

import pytest

from openrlhf_math.rerank import actors
from openrlhf_math.rerank.actors import SharedDevice
from openrlhf_math.rerank.roles import Gone

SAMPLER, SCORER = 0, 1


class Engine:
    """Records its calls, and that it runs only while it is awake."""

    def __init__(self, name: str, log: list[str], awake: bool) -> None:
        self.name, self.log, self.awake = name, log, awake

    async def sleep(self) -> None:
        await asyncio.sleep(0)
        self.awake = False
        self.log.append(f"{self.name} sleeps")

    async def wake_up(self) -> None:
        await asyncio.sleep(0)
        self.awake = True
        self.log.append(f"{self.name} wakes")


class Bench:
    """A device with both engines on it; only the scorer, which was loaded last, is awake."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.engines = [Engine("sampler", self.log, False), Engine("scorer", self.log, True)]
        self.device = SharedDevice(self.engines, awake=[SCORER])
        self.inside = [0, 0]

    async def work(self, side: int, turns: int = 1) -> None:
        async with self.device.turn(side):
            self.inside[side] += 1
            for _ in range(turns):
                assert self.engines[side].awake
                assert not self.engines[1 - side].awake
                assert not self.inside[1 - side]
                await asyncio.sleep(0.001)
            self.inside[side] -= 1
        self.log.append("sampled" if side == SAMPLER else "scored")


def test_only_one_engine_is_awake():
    async def run(bench: Bench) -> None:
        await asyncio.gather(*(bench.work(number % 2, turns=1 + number % 3) for number in range(40)))

    bench = Bench()
    asyncio.run(run(bench))
    assert bench.log.count("sampled") == bench.log.count("scored") == 20


def test_attempts_are_generated_together_then_scored_together():
    async def attempt(bench: Bench, number: int) -> None:
        await bench.work(SAMPLER, turns=1 + number)
        await bench.work(SCORER)

    async def run(bench: Bench) -> None:
        await asyncio.gather(*(attempt(bench, number) for number in range(6)))

    bench = Bench()
    asyncio.run(run(bench))
    assert bench.log == [
        "scorer sleeps", "sampler wakes", *["sampled"] * 6, "sampler sleeps", "scorer wakes", *["scored"] * 6,
    ]  # fmt: skip
    assert bench.device.switches == 2


def test_waiting_side_is_served_in_order():
    """New attempts keep coming: the one that is done is scored all the same."""

    async def run(bench: Bench) -> None:
        first = asyncio.create_task(bench.work(SAMPLER))
        await asyncio.sleep(0)
        await first
        scoring = asyncio.create_task(bench.work(SCORER))
        await asyncio.sleep(0)
        await asyncio.gather(scoring, *(bench.work(SAMPLER) for _ in range(3)))

    bench = Bench()
    asyncio.run(run(bench))
    assert [entry for entry in bench.log if entry.startswith(("sampled", "scored"))] == ["sampled", "scored"] + [
        "sampled"
    ] * 3


def test_cancelling_a_request_blocks_no_other():
    async def run(bench: Bench) -> None:
        working = asyncio.create_task(bench.work(SAMPLER, turns=10_000))
        await asyncio.sleep(0.005)
        waiting = [asyncio.create_task(bench.work(SCORER)) for _ in range(3)]
        await asyncio.sleep(0.005)
        waiting[0].cancel()
        working.cancel()
        bench.inside[SAMPLER] = 0
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        await asyncio.wait_for(asyncio.gather(*waiting[1:], bench.work(SAMPLER)), timeout=5)

    bench = Bench()
    asyncio.run(run(bench))
    assert bench.log.count("scored") == 2 and bench.log.count("sampled") == 1


def test_cancelling_during_a_switch_completes_the_switch():
    async def run(bench: Bench) -> None:
        changing = asyncio.create_task(bench.work(SAMPLER))
        await asyncio.sleep(0)  # the scorer is being put to sleep
        await asyncio.sleep(0)
        changing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await changing
        await asyncio.wait_for(asyncio.gather(bench.work(SAMPLER), bench.work(SCORER)), timeout=5)

    bench = Bench()
    asyncio.run(run(bench))
    assert bench.log == ["scorer sleeps", "sampler wakes", "sampled", "sampler sleeps", "scorer wakes", "scored"]


def test_hanging_switch_fails_waiting_requests(monkeypatch):
    async def never() -> None:
        await asyncio.sleep(3600)

    async def run(bench: Bench) -> None:
        bench.engines[SCORER].sleep = never
        results = await asyncio.gather(*(bench.work(SAMPLER) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in results] == [Gone] * 3
        with pytest.raises(Gone):
            await bench.device.check()

    monkeypatch.setattr(actors, "SWITCH_SECONDS", 0.05)
    asyncio.run(asyncio.wait_for(run(Bench()), 30))


def test_cancelled_request_does_not_wait_for_a_switch():
    async def run(bench: Bench) -> None:
        over = asyncio.Event()
        bench.engines[SCORER].sleep = over.wait
        changing = asyncio.create_task(bench.work(SAMPLER))
        await asyncio.sleep(0.01)
        changing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(changing, 30)
        over.set()
        bench.engines[SCORER].awake = False
        await bench.work(SAMPLER)

    asyncio.run(asyncio.wait_for(run(Bench()), 60))


def test_failed_switch_is_retried():
    async def run(bench: Bench) -> None:
        sleep, failed = bench.engines[SCORER].sleep, []

        async def fails_once() -> None:
            if failed:
                return await sleep()
            failed.append(True)
            raise ZeroDivisionError

        bench.engines[SCORER].sleep = fails_once
        with pytest.raises(ZeroDivisionError):
            await bench.work(SAMPLER)
        await bench.work(SAMPLER)

    asyncio.run(asyncio.wait_for(run(Bench()), 30))
