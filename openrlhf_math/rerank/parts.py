"""What a Reranker is made of."""

from dataclasses import dataclass, field

from openrlhf_math.rerank.endpoint_sampler import EndpointModel
from openrlhf_math.rerank.sampling_engine import SamplerSettings
from openrlhf_math.rerank.scoring_engine import ScorerSettings
from openrlhf_math.rerank.verdicts import AskedScorerSettings
from openrlhf_math.rewards import RewardConfig


@dataclass(frozen=True, slots=True)
class RerankerSettings:
    """What a Reranker is made of. Raises ValueError for values that cannot work.

    scorer  None for rules that need no scores; with a sampler or scorer behind an endpoint see `here`
    shared  sampler and scorer take turns on one device
    """

    sampler: SamplerSettings | EndpointModel
    scorer: ScorerSettings | AskedScorerSettings | None = None
    rewards: RewardConfig = field(default_factory=RewardConfig)
    shared: bool = False

    def __post_init__(self) -> None:
        if self.shared:
            if self.scorer is None:
                raise ValueError("there is no scorer that could share the sampler's device")
            if not (isinstance(self.sampler, SamplerSettings) and isinstance(self.scorer, ScorerSettings)):
                raise ValueError("one of the two models is behind an endpoint, and needs no device")
            for name in ("replicas", "tensor_parallel"):
                if getattr(self.sampler, name) > 1 or getattr(self.scorer, name) > 1:
                    raise ValueError("only one sampler and one scorer, each on one device, can share it")
