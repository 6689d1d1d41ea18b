"""Rollouts that begin in one step of the engine, so that what is batched with what does not depend on the moment.

In bfloat16 a logit may depend on what else is in the batch. Requests arrive at an engine one by one while it works;
here they wait for each other, and reach it, paused, in the order of their prompts.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field

POLL_SECONDS = 0.001


@dataclass
class StartTogether:
    """engine: vLLM's `AsyncLLM`. arrived: rollouts that came since the last `release`."""

    engine: object
    arrived: int = field(default=0, init=False)
    _waiting: list = field(default_factory=list, init=False)  # prompt, requests, gate, task

    async def run(self, rollout: Coroutine, prompt: str, requests: int):
        """The result of `rollout`, which sends so many requests, once `release` lets it begin."""
        gate = asyncio.Event()

        async def gated():
            await gate.wait()
            return await rollout

        task = asyncio.ensure_future(gated())
        self._waiting.append((prompt, requests, gate, task))
        self.arrived += 1
        return await task

    async def release(self) -> None:
        """Let all that wait begin. Those under way, if any, stand still meanwhile."""
        waiting, self._waiting, self.arrived = sorted(self._waiting, key=lambda one: one[0]), [], 0
        if not waiting:
            return
        await self.engine.pause_generation(mode="keep", clear_cache=False)
        try:
            for _, requests, gate, task in waiting:
                wanted = self._unfinished() + requests
                gate.set()
                while self._unfinished() < wanted and not task.done():
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            await self.engine.resume_generation()

    def _unfinished(self) -> int:
        return self.engine.output_processor.get_num_unfinished_requests()
