"""A custom advantage estimator for test_faults.py: no numbers at the second, the fourth and the fifth step."""

import itertools

import torch

from openrlhf_math.grpo.advantages import grpo

STEPS = itertools.count()  # 0 is the call before the run, which tries it out


def sometimes_nan(rewards: torch.Tensor) -> torch.Tensor:
    return grpo(rewards) * (torch.nan if next(STEPS) in (2, 4, 5) else 1.0)
