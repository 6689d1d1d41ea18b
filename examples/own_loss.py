"""A policy loss of one's own: PPO's without the clip, in which completions below their group's mean weigh half.

PYTHONPATH=examples openrlhf-math grpo ... --actor.policy_loss_type own_loss.gentle_with_wrong
"""

import torch

from openrlhf_math.grpo.losses import LossInputs


def gentle_with_wrong(inputs: LossInputs) -> torch.Tensor:
    """- r_t A_t where A_t > 0, else - r_t A_t / 2, with r_t = pi / pi_old: float32 [completions, actions]."""
    weight = torch.where(inputs.advantages > 0, 1.0, 0.5)
    return -inputs.ratio() * weight * inputs.advantages
