"""`--algo.dynamic_filtering_enable`: groups whose advantages are all zero are replaced by the next problems.

A group teaches something if the rewards that the advantage estimator sees differ.
"""

import math
from functools import reduce
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float32
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.length_penalty import apply_length_penalties
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from openrlhf.utils.logging_utils import init_logger

from openrlhf_math.arguments import with_values
from openrlhf_math.grpo.advantages import Estimator, Rewards, all_equal, find_estimator
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.runs.rollouts import PART

logger = init_logger(__name__)


class FilteringGenerator(SamplesGenerator):
    """OpenRLHF's, which drops a group unless the mean of its scores is within `--algo.dynamic_filtering_range`.

    A group without any advantage gets the score NaN, which is in no range. Without a range no other is dropped.
    DAPO's dynamic sampling, https://arxiv.org/abs/2503.14476, section 3.2.
    """

    args: GRPOArguments  # of the run
    _filters = False  # the batch that is being generated
    _group: list[Experience]  # that came of a group so far

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        bounds = self.args.algo.dynamic_filtering_range or (-math.inf, math.inf)
        self.args = with_values(self.args, {"algo.dynamic_filtering_range": bounds})

    def _generate_vllm(self, *args: Any, dynamic_filtering: bool, **kwargs: Any) -> tuple:
        self._filters, self._group = dynamic_filtering, []
        return super()._generate_vllm(*args, dynamic_filtering=dynamic_filtering, **kwargs)

    def _process_response_into_experience(self, response: dict, **generate_kwargs: Any) -> Experience:
        """OpenRLHF calls it for the responses of a group one after another, and then looks at their scores."""
        experience = super()._process_response_into_experience(response, **generate_kwargs)
        if self._filters and experience.rewards is not None:
            self._group.append(experience)
            if len(self._group) == self.args.rollout.n_samples_per_prompt:
                self._score(self._group)
                self._group = []
        return experience

    def _score(self, group: list[Experience]) -> None:
        teaches = teaches_by_reward(group, self.args)
        if not teaches:
            rewards = [round(each.rewards.item(), 6) for each in group]
            logger.info(f"A group is left out, as all its advantages are 0: rewards {rewards}")
        for each in group:
            if not teaches:
                each.scores = torch.full_like(each.rewards, math.nan, dtype=torch.float32)
            elif each.scores is None:  # OpenRLHF filters only what has scores
                each.scores = each.rewards.clone()


def shaped_rewards(experiences: list[Experience], args: GRPOArguments) -> list[Float32[torch.Tensor, " _"]]:
    """Rewards after OpenRLHF's length penalties, clipped to `--reward.clip_range`: one a completion.

    The penalties stay in `experience.rewards`, which becomes float32; the clip is in the returned copies alone.
    """
    for experience in experiences:
        experience.rewards = experience.rewards.float()
    apply_length_penalties(experiences, args)
    low, high = args.reward.clip_range or (None, None)
    rewards = [experience.rewards for experience in experiences]
    return [each.clone() if low is None else each.clamp(low, high) for each in rewards]


def decoupled(parts: list[Rewards], weights: list[float], estimator: Estimator) -> Rewards:
    """sum_k w_k A_k, with A_k the advantages of part k by itself.

    parts: rewards of each part. GDPO, https://arxiv.org/abs/2601.05242, before
    the division by the standard deviation over the batch. Exactly 0 in a group of equal rewards.
    """
    return reduce(torch.add, (weight * estimator(rewards) for rewards, weight in zip(parts, weights, strict=True)))


def by_batch_spread(advantages: Rewards) -> Rewards:
    """Advantages divided by their standard deviation (n - 1) over the batch, as GDPO does.

    Their mean, which it takes off, is 0 where an estimator centres within groups.
    """
    return torch.where(advantages == 0, 0.0, advantages / advantages.std())


def part_rewards(experience: Experience, args: GRPOArguments) -> list[Float32[torch.Tensor, " batch"]]:
    """Of each part of the reward, without its weight, clipped to `--reward.clip_range`."""
    low, high = args.reward.clip_range or (-math.inf, math.inf)
    weights = args.math.reward_parts.weights if args.math.reward_parts else ()
    return [experience.info[PART + name].float().clamp(low, high) for name, _ in weights]


def teaches_by_reward(group: list[Experience], args: GRPOArguments) -> bool:
    """Whether some advantage of a group, one completion an experience, will not be 0.

    An estimator of ours is asked about this group alone. For one of OpenRLHF's, whose baseline may be that of the whole
    batch, it is whether the rewards differ. With `--math.truncated mask` a truncated completion has zero advantage.
    """
    copies = [
        SimpleNamespace(rewards=each.rewards.clone(), response_length=each.response_length, truncated=each.truncated,
                        info={})
        for each in group
    ]  # fmt: skip
    rewards = torch.cat(shaped_rewards(copies, args))[None]
    estimator = find_estimator(args.algo.advantage.estimator)
    if args.math.reward_parts and args.math.reward_parts.each:
        values = zip(*(part_rewards(each, args) for each in group), strict=True)
        weights = [weight for _, weight in args.math.reward_parts.weights]
        assert estimator  # parts are not normalised by an estimator of OpenRLHF's: refused with the flags
        signal = decoupled([torch.cat(part)[None] for part in values], weights, estimator) != 0
    else:
        signal = (~all_equal(rewards)).expand_as(rewards) if estimator is None else estimator(rewards) != 0
    if args.math.truncated == "mask":
        signal = signal & (torch.cat([each.truncated.reshape(-1) for each in group]) == 0)
    return bool(signal.any())
