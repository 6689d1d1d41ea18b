"""How many calls wait in an engine's actor, over actors that only count."""

import asyncio
from types import SimpleNamespace

from openrlhf_math.rerank.actors import RemoteSampler
from openrlhf_math.rerank.roles import Completion, Sampling

SAMPLING = Sampling()


class Actor:
    """Its completions end when `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = self.under_way = self.most = 0
        self.complete = SimpleNamespace(remote=self._complete)

    async def _complete(self, messages, sampling, name) -> Completion:
        self.asked += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.go.wait()
        self.under_way -= 1
        return Completion("1", 1, "eos")


def test_engine_has_the_next_completions_and_no_more():
    async def run() -> tuple[list[Actor], int]:
        actors = [Actor(), Actor()]
        sampler = RemoteSampler(actors, max_concurrency=3)
        tasks = [asyncio.create_task(sampler.complete([], SAMPLING)) for _ in range(50)]
        await asyncio.sleep(0.01)
        begun = sum(actor.asked for actor in actors)
        for actor in actors:
            actor.go.set()
        assert len(await asyncio.gather(*tasks)) == 50
        return actors, begun

    actors, begun = asyncio.run(run())
    assert begun == 12 and [actor.most for actor in actors] == [6, 6]
    assert sum(actor.asked for actor in actors) == 50


def test_cancelling_what_waits_asks_no_actor_and_frees_its_place():
    async def run() -> tuple[int, int]:
        actor = Actor()
        sampler = RemoteSampler([actor], max_concurrency=1)
        first, second, waiting, last = (asyncio.create_task(sampler.complete([], SAMPLING)) for _ in range(4))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
        before = actor.asked
        actor.go.set()
        await asyncio.gather(first, second, last)
        return before, actor.asked

    assert asyncio.run(run()) == (2, 3)
