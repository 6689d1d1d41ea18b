"""Advantage estimators: group rewards in, one advantage per completion out.

`grpo` is the recipe's. A name that is not registered here goes to OpenRLHF, whose own estimators keep
working (`UPSTREAM`). A user's own is given by its dotted path, `package.module.function`.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float32

from openrlhf_math.grpo.objective import UPSTREAM_ESTIMATORS as UPSTREAM
from openrlhf_math.registry import Registry

Rewards: TypeAlias = Float32[torch.Tensor, "groups completions"]
Estimator = Callable[[Rewards], Rewards]
# Of these, the ones in which only differences within a group count.
GROUP_BASELINE = ("rloo", "reinforce_baseline", "group_norm", "dr_grpo")
ROUNDING = 1e-6  # rewards of a group that differ by less, relative to the largest, are equal
_REGISTRY: Registry[Estimator] = Registry()
# Of a function from rewards to advantages, both `Rewards`.
register_advantage_estimator = _REGISTRY.register


def find_estimator(name: str) -> Estimator | None:
    """The estimator called `name`, or None if it is one of OpenRLHF's.

    Raises UserError if there is none, or if a dotted path does not lead to a function.
    """
    return None if name in UPSTREAM else _REGISTRY.find("--algo.advantage.estimator", name, UPSTREAM)


def all_equal(rewards: Rewards) -> Bool[torch.Tensor, "groups 1"]:
    """Whether the rewards of a group differ by no more than rounding.

    max_j r_ij - min_j r_ij <= 1e-6 max_j |r_ij|. A difference that small is
    left by sums of rewards and penalties in another order; divided by its own standard deviation it would be ±1.
    """
    low, high = rewards.aminmax(dim=-1, keepdim=True)
    spread = high - low
    return (spread <= ROUNDING * rewards.abs().amax(dim=-1, keepdim=True)) & spread.isfinite()


@register_advantage_estimator("grpo")
def grpo(rewards: Rewards) -> Rewards:
    """Group-normalised advantages, A_ij = (r_ij - mean_j r_i) / std_j r_i.

    The standard deviation is the sample's (n - 1). A group whose rewards are `all_equal` has advantage exactly 0.
    DeepSeekMath, https://arxiv.org/abs/2402.03300, section 4.1.
    """
    centred = centre(rewards)
    std = rewards.std(dim=-1, keepdim=True)
    return torch.where(centred == 0, 0.0, centred / std)


@register_advantage_estimator("grpo_no_std")
def centre(rewards: Rewards) -> Rewards:
    """Rewards minus their group's mean, A_ij = r_ij - mean_j r_i.

    Without the division a hard or an easy group weighs less than a mixed one. Exactly 0 where the rewards are
    `all_equal`. Dr. GRPO, https://arxiv.org/abs/2503.20783, section 3.1.
    """
    return torch.where(all_equal(rewards), 0.0, rewards - rewards.mean(dim=-1, keepdim=True))
