"""The rewards that an advantage estimator sees, and whether a group of them teaches anything."""

import math
from functools import reduce
from types import SimpleNamespace

import torch
from jaxtyping import Float32
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.length_penalty import apply_length_penalties

from openrlhf_math.grpo.advantages import Estimator, Rewards, all_equal, find_estimator
from openrlhf_math.runs.rollouts import PART


def shaped_rewards(experiences: list[Experience], args: SimpleNamespace) -> list[Float32[torch.Tensor, " _"]]:
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
    the division by the standard deviation over the batch. Exactly 0 in a group that teaches nothing.
    """
    return reduce(torch.add, (weight * estimator(rewards) for rewards, weight in zip(parts, weights, strict=True)))


def by_batch_spread(advantages: Rewards) -> Rewards:
    """Advantages divided by their standard deviation (n - 1) over the batch, as GDPO does.

    Their mean, which it takes off, is 0 where an estimator centres within groups.
    """
    return torch.where(advantages == 0, 0.0, advantages / advantages.std())


def part_rewards(experience: Experience, args: SimpleNamespace) -> list[Float32[torch.Tensor, " batch"]]:
    """Of each part of the reward, without its weight, clipped to `--reward.clip_range`."""
    low, high = args.reward.clip_range or (-math.inf, math.inf)
    return [experience.info[PART + name].float().clamp(low, high) for name, _ in args.math.reward_parts.weights]


def teaches_by_reward(group: list[Experience], args: SimpleNamespace) -> bool:
    """Whether some advantage of a group, one completion an experience, will not be 0.

    An estimator of ours is asked about this group alone. For one of OpenRLHF's, whose baseline may be that of the whole
    batch, it is whether the rewards differ. With `--math.truncated mask` a completion that was cut off teaches nothing.
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
