"""Tokens saved by an early stop, against what the attempts that were not made would have cost."""

import asyncio
import math
import random

import pytest

from openrlhf_math.rerank.anytime import VoteState, decide
from openrlhf_math.rerank.budget import Budget, Limits
from openrlhf_math.rerank.early_stop import cannot_lose, confident
from openrlhf_math.rerank.roles import Completion, CutOff, Sampling
from openrlhf_math.rerank.strategies import independent
from openrlhf_math.rerank.task import Task, Turn

TURNS = 60  # of the event loop, in which all that can begin has begun


class Clockwork:
    """A sampler whose completions take a tick a token, all at the same speed: its clock is its own."""

    def __init__(self, lengths: list[int], answers: list[int]) -> None:
        self.lengths, self.answers, self.now = lengths, answers, 0
        self.ends: dict[int, tuple[int, asyncio.Future]] = {}
        self.counted = asyncio.Event()

    async def complete(self, messages, sampling) -> Completion:
        number, begun = int(messages[0]["content"]), self.now
        done: asyncio.Future = asyncio.get_running_loop().create_future()
        self.ends[number] = (begun + self.lengths[number], done)
        try:
            await done
        except asyncio.CancelledError:
            raise CutOff(self.now - begun) from None
        return Completion(f"\\boxed{{{self.answers[number]}}}", self.lengths[number], "eos")

    async def run(self) -> None:
        while True:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            if not self.ends:
                return
            number = min(self.ends, key=lambda one: self.ends[one][0])
            self.now, done = self.ends.pop(number)
            self.counted.clear()
            done.set_result(None)
            await self.counted.wait()


async def decided(lengths, answers, stop, max_concurrency):
    sampler, budget = Clockwork(lengths, answers), Budget(Limits(attempts=len(lengths)))
    turn = lambda number: Turn([{"role": "user", "content": str(number)}], Sampling())  # noqa: E731
    task = Task("1+1?", turn, sampler, None, budget, max_concurrency or len(lengths))
    clock = asyncio.create_task(sampler.run())
    state = VoteState(lambda *pair: False)
    try:
        return await decide(
            independent(task), budget, state, stop, lambda state: sampler.counted.set(), not max_concurrency
        )
    finally:
        clock.cancel()


DRAWS = {
    "alike": lambda rng: round(rng.gauss(800, 60)),
    "spread": lambda rng: 1 + int(rng.gammavariate(4, 200)),
    "long tail": lambda rng: 1 + int(rng.lognormvariate(6.5, 0.8)),
}


@pytest.mark.parametrize("stop", [cannot_lose, confident(0.95)], ids=["cannot lose", "0.95"])
@pytest.mark.parametrize("max_concurrency", [None, 4, 16])
@pytest.mark.parametrize("draw", DRAWS)
def test_reported_savings_are_not_overstated(draw, max_concurrency, stop):
    rng, truth, said = random.Random(1), 0, 0
    for _ in range(40):
        lengths = [DRAWS[draw](rng) for _ in range(16)]
        answers = [0 if rng.random() < 0.7 else rng.randint(1, 6) for _ in range(16)]
        decision = asyncio.run(decided(lengths, answers, stop, max_concurrency))
        if decision.ended == "early":
            truth += sum(lengths) - decision.tokens
            said += decision.tokens_saved
        else:
            assert (decision.tokens, decision.tokens_saved) == (sum(lengths), 0)
    assert truth > 0 and said <= 1.05 * truth
    assert max_concurrency or math.isclose(said, truth, rel_tol=0.15)
