"""With full determinism: rollouts reach an engine together and in one order, whatever order they came in."""

import asyncio
from types import SimpleNamespace

import pytest

from openrlhf_math.grpo.rollout import determinism
from openrlhf_math.grpo.rollout.determinism import DeterministicSamples, StartTogether
from openrlhf_math.patches.patch import substituted


class Engine:
    """What of vLLM's engine is asked. log: what it did, one entry a request."""

    def __init__(self) -> None:
        self.log, self.unfinished = [], 0
        self.output_processor = SimpleNamespace(get_num_unfinished_requests=lambda: self.unfinished)

    async def pause_generation(self, mode: str, clear_cache: bool) -> None:
        assert (mode, clear_cache) == ("keep", False)
        self.log.append("pause")

    async def resume_generation(self) -> None:
        self.log.append("resume")

    async def rollout(self, name: str, requests: int, fails: bool = False) -> str:
        for _ in range(requests):
            await asyncio.sleep(0.002)  # each is worked on before it is sent
            if fails:
                raise ValueError(f"{name} has no room")
            self.unfinished += 1
            self.log.append(name)
        return name


def together(engine: Engine, *rollouts: tuple) -> list:
    """Results, or errors, of rollouts that come in this order."""

    async def all_of_them():
        gate = StartTogether(engine)
        coming = [asyncio.ensure_future(gate.run(engine.rollout(*one), one[0], one[1])) for one in rollouts]
        while gate.arrived < len(rollouts):
            await asyncio.sleep(0)
        assert not engine.log, "none begins before the release"
        await gate.release()
        assert gate.arrived == 0
        return await asyncio.gather(*coming, return_exceptions=True)

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("names", ["abc", "cab", "bca"])
def test_requests_reach_the_paused_engine_in_the_order_of_their_prompts(names):
    engine = Engine()
    assert together(engine, *((name, 2) for name in names)) == list(names)
    assert engine.log == ["pause", "a", "a", "b", "b", "c", "c", "resume"]


def test_silent_process_does_not_block_others():
    engine = Engine()
    first, second = together(engine, ("a", 2, True), ("b", 2))
    assert isinstance(first, ValueError) and second == "b"
    assert engine.log == ["pause", "b", "b", "resume"]


def test_unused_engine_is_not_paused():
    engine = Engine()
    assert together(engine) == []
    assert engine.log == []


class Ray:
    """References are numbers; those in `answered` have an answer."""

    def __init__(self, answered: set) -> None:
        self.answered = answered

    def wait(self, references, timeout):
        assert timeout == 0
        ready = [one for one in references if one in self.answered]
        return ready, [one for one in references if one not in ready]

    def get(self, values):
        return values


def begins(dispatched: list, waits_for: list, arrived: list[int], answered: set = frozenset()) -> tuple[bool, list]:
    """Whether the engines are let begin before the loop waits, and what still waits at the gates."""
    released = []
    counts = iter(arrived)
    engine = SimpleNamespace(
        arrived=SimpleNamespace(remote=lambda: next(counts)),
        release=SimpleNamespace(remote=lambda: released.append(next(counts, "all counted"))),
    )
    samples = DeterministicSamples.__new__(DeterministicSamples)
    samples.vllm_engines, samples._gated = [engine], list(dispatched)
    with substituted(determinism, ray=Ray(set(answered)), POLL_SECONDS=0):
        samples._before_wait(waits_for)
    return released == ["all counted"], samples._gated


def test_engines_start_once_all_requests_arrived():
    assert begins([1, 2, 3], [3, 1, 2], arrived=[0, 2, 3]) == (True, [])


def test_replacement_waits_for_running_requests():
    assert begins([4], [2, 4], arrived=[]) == (False, [4])
    assert begins([4], [4], arrived=[1]) == (True, [])
    assert begins([], [2, 3], arrived=[]) == (False, [])


def test_dead_engine_is_not_waited_for():
    assert begins([1, 2], [1, 2], arrived=[], answered={2}) == (True, [])
