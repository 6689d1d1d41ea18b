"""An advantage estimator of one's own: GRPO's, weighed by the share of the group that is wrong.

PYTHONPATH=examples openrlhf-math grpo ... --algo.advantage.estimator own_estimator.hard_first
"""

import torch

from openrlhf_math.grpo.advantages import grpo


def hard_first(rewards: torch.Tensor) -> torch.Tensor:
    """A_ij = (1 - mean_j r_i) (r_ij - mean_j r_i) / std_j r_i, for rewards from 0 to 1.

    rewards, returned: float32 [groups, completions]. What most attempts solve already moves the policy little.
    """
    return (1 - rewards.mean(dim=-1, keepdim=True)) * grpo(rewards)
