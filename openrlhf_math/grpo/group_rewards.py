"""The rewards that an advantage estimator sees, and whether a group of them teaches anything."""

from types import SimpleNamespace

import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.length_penalty import apply_length_penalties

from openrlhf_math.grpo.advantages import all_equal, find_estimator


def shaped_rewards(experiences: list[Experience], args: SimpleNamespace) -> list[torch.Tensor]:
    """Rewards after OpenRLHF's length penalties, clipped to `--reward.clip_range`: float32 [batch] each.

    The penalties stay in `experience.rewards`, which becomes float32; the clip is in the returned copies alone.
    """
    for experience in experiences:
        experience.rewards = experience.rewards.float()
    apply_length_penalties(experiences, args)
    low, high = args.reward.clip_range or (None, None)
    rewards = [experience.rewards for experience in experiences]
    return [each.clone() if low is None else each.clamp(low, high) for each in rewards]


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
    signal = (~all_equal(rewards)).expand_as(rewards) if estimator is None else estimator(rewards) != 0
    if args.math.truncated == "mask":
        signal = signal & (torch.cat([each.truncated.reshape(-1) for each in group]) == 0)
    return bool(signal.any())
