"""Advantage estimators: group rewards in, one advantage per completion out.

`grpo` is the recipe's. A name that is not registered here goes to OpenRLHF, whose own estimators keep
working (`UPSTREAM`). A user's own is given by its dotted path, `package.module.function`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float32

from openrlhf_math.errors import UserError
from openrlhf_math.grpo.objective import UPSTREAM_ESTIMATORS as UPSTREAM
from openrlhf_math.registry import Registry

FLAG = "--algo.advantage.estimator"
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

    Raises UserError if there is none, or if a dotted path does not lead to a function. A user's own function checks
    what it returns in every call.
    """
    if name in UPSTREAM:
        return None
    function = _REGISTRY.find(FLAG, name, UPSTREAM)
    return function if name in _REGISTRY else OwnEstimator(name, function)


@dataclass(frozen=True, slots=True)
class OwnEstimator:
    """A user's function, by its dotted path."""

    name: str
    function: Estimator

    def __call__(self, rewards: Rewards) -> Rewards:
        """Raises UserError unless the function returns a tensor of the shape of the rewards.

        With as many values in another shape, completions would be trained with advantages of others.
        """
        advantages = self.function(rewards.clone())
        if not isinstance(advantages, torch.Tensor) or advantages.shape != rewards.shape:
            found = tuple(advantages.shape) if isinstance(advantages, torch.Tensor) else type(advantages).__name__
            raise UserError(
                f"{FLAG} {self.name}: it must return a tensor of shape {tuple(rewards.shape)} for the rewards of "
                f"{rewards.shape[0]} groups of {rewards.shape[1]} completions, and returns {found}"
            )
        return advantages.to(rewards)


def check_estimator(name: str) -> None:
    """Raise UserError unless there is such an estimator and, if it is a user's own, it works for two small groups."""
    estimator = find_estimator(name)
    if not isinstance(estimator, OwnEstimator):
        return
    rewards = torch.tensor([[1.0, 0.0, 0.2, 0.0], [0.2, 0.2, 0.2, 0.2]])
    try:
        advantages = estimator(rewards)
    except UserError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise UserError(f"{FLAG} {name}: it fails with the rewards {_rounded(rewards)}: {error!r}") from error
    if not advantages.isfinite().all():
        raise UserError(
            f"{FLAG} {name}: its advantages for the rewards {_rounded(rewards)} are {_rounded(advantages)}, which are "
            "not all finite"
        )


def _rounded(values: Rewards) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in values.tolist()]


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
