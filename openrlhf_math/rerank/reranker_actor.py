"""The Reranker as a Ray actor, over samplers and scorers that are actors of their own."""

from collections.abc import Sequence

import ray

from openrlhf_math.rerank.replicas import RemoteSampler, RemoteScorer, Sleepers
from openrlhf_math.rerank.reranker import Reranker
from openrlhf_math.rerank.roles import Sampler, Scorer
from openrlhf_math.rerank.shared_device import SharedDevice, SharingSampler, SharingScorer
from openrlhf_math.rerank.solver import Solver
from openrlhf_math.rewards import GradingPool, RewardConfig


class RerankerActor(Reranker):
    """It holds no model: what it needs is a core for comparing answers."""

    def __init__(
        self, samplers: Sequence[str], scorers: Sequence[str], rewards: RewardConfig, shared: bool = False
    ) -> None:
        """samplers, scorers: names of Ray actors; no scorers, no scores. shared: whether they share a device, on which
        the scorers, which were loaded last, are awake and the samplers are not."""
        writers = RemoteSampler([ray.get_actor(name) for name in samplers])
        judges = RemoteScorer([ray.get_actor(name) for name in scorers]) if scorers else None
        checks = [part.check for part in (writers, judges) if part]
        sampler: Sampler = writers
        scorer: Scorer | None = judges
        if shared and judges:
            device = SharedDevice([Sleepers(writers.actors), Sleepers(judges.actors)], awake=[1])
            sampler, scorer = SharingSampler(writers, device, 0), SharingScorer(judges, device, 1)
            checks.append(device.check)
        super().__init__(Solver(sampler, scorer, GradingPool(rewards)), checks)
