"""`--train.full_determinism_enable`: what a completion is depends on the weights, the problem and the step alone.

Every request has its own seed, so neither what the engine drew before nor which engine answers matters; an engine
begins with its prompts when it has all of them, so that it batches them alike each time; groups are taken in the order
in which their problems were drawn, not in that of their answers.
"""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import ray
from openrlhf.trainer.ppo_utils import samples_generator
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from vllm import SamplingParams

from openrlhf_math.colocation.cluster import LOST
from openrlhf_math.patches.patch import substituted
from openrlhf_math.seeds import derived_seed

ENGINE_POLL_SECONDS = 0.001
Found = TypeVar("Found")


@dataclass
class StartTogether:
    """engine: vLLM's `AsyncLLM`. arrived: rollouts that came since the last `release`."""

    engine: Any
    arrived: int = field(default=0, init=False)
    _waiting: list = field(default_factory=list, init=False)  # prompt, requests, gate, task

    async def run(self, rollout: Coroutine[Any, Any, Found], prompt: str, requests: int) -> Found:
        """The result of `rollout`, which sends so many requests, once `release` lets it begin."""
        gate = asyncio.Event()

        async def gated() -> Found:
            await gate.wait()
            return await rollout

        task = asyncio.ensure_future(gated())
        self._waiting.append((prompt, requests, gate, task))
        self.arrived += 1
        return await task

    async def release(self) -> None:
        """Start all that wait. Running ones, if any, are paused until then."""
        waiting, self._waiting, self.arrived = sorted(self._waiting, key=lambda one: one[0]), [], 0
        if not waiting:
            return
        await self.engine.pause_generation(mode="keep", clear_cache=False)
        try:
            for _, requests, gate, task in waiting:
                wanted = self._unfinished() + requests
                gate.set()
                while self._unfinished() < wanted and not task.done():
                    await asyncio.sleep(ENGINE_POLL_SECONDS)
        finally:
            await self.engine.resume_generation()

    def _unfinished(self) -> int:
        return self.engine.output_processor.get_num_unfinished_requests()


POLL_SECONDS = 0.01


def sampling_params(more: dict, **given: Any) -> SamplingParams:
    return SamplingParams(**given | more)


class DeterministicSamples(SamplesGenerator):
    """OpenRLHF's sample generator, which does not depend on the past if the user wants that.

    step: gradient steps done. evaluating: whether the samples are for an evaluation.
    """

    step = 0
    evaluating = False
    _drawn: list[str]  # prompts of this batch, as they were drawn
    _gated: list[ray.ObjectRef]  # rollouts that wait at their gates

    def _dispatch_prompts_to_vllm(self, prompts: list[str], *args: Any, **kwargs: Any) -> list:
        self._drawn += prompts
        determined = self.args.train.full_determinism_enable
        more = self._sampling()
        if determined:  # the executor adds the prompt
            more["seed"] = derived_seed(f"{self.args.train.seed}\0{self.step}\0{self.evaluating}")
        with substituted(samples_generator, SamplingParams=partial(sampling_params, more)):
            references = super()._dispatch_prompts_to_vllm(prompts, *args, **kwargs)
        if not determined:
            return references
        self._gated += references
        return references

    def _sampling(self) -> dict:
        """Arguments of SamplingParams that add to OpenRLHF's or replace them."""
        generation = self.args.math.generation
        more = {"stop": list(generation.stop), "include_stop_str_in_output": True} if generation.stop else {}
        return more | dict(generation.evaluation) if self.evaluating else more

    def _before_wait(self, references: list) -> None:
        """Let the engines begin when all that is asked for waits at their gates.

        What takes the place of a group that dynamic sampling dropped begins when those before it are done.
        """
        if not self._gated or not set(references) <= set(self._gated):
            return
        gated, self._gated = self._gated, []
        with contextlib.suppress(*LOST):
            # Ray starts calls in any order. One that is answered without a release died with its engine.
            while not ray.wait(gated, timeout=0)[0] and self._arrived() < len(gated):
                time.sleep(POLL_SECONDS)
        with contextlib.suppress(*LOST):
            ray.get([engine.release.remote() for engine in self.vllm_engines])

    def _arrived(self) -> int:
        return sum(ray.get([engine.arrived.remote() for engine in self.vllm_engines]))

    def _begin(self) -> None:
        super()._begin()
        self._drawn: list[str] = []
        self._gated: list[ray.ObjectRef] = []

    def _generate_vllm(self, *args: Any, **kwargs: Any) -> tuple:
        samples, *rest = super()._generate_vllm(*args, **kwargs)
        if self.args.train.full_determinism_enable:
            # Of a prompt that was asked again, its engine having died, the first.
            place = {prompt: number for number, prompt in reversed([*enumerate(self._drawn)])}
            samples.sort(key=lambda sample: place[sample.prompts[0]])
        return samples, *rest
