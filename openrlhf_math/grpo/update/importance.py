"""How far importance weights are from 1: the engine that generated against the policy that is trained.

Of a token that the engine sampled, w = pi(o_t) / pi_rollout(o_t), with pi the policy before the step. The names of the
metrics begin as verl's do, with `rollout_corr/`.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Float64, Shaped

from openrlhf_math.grpo.losses import LARGEST_LOG_RATIO

Tensor = torch.Tensor
ESS = "rollout_corr/ess"


class WeightTally:
    """Sums of one step, to which every micro-batch adds: tokens, w, w^2, -log w, w - 1 - log w, corrected tokens."""

    def __init__(self) -> None:
        self.sums, self.largest = empty()

    def add(
        self,
        trainer: Float[Tensor, "batch actions"],
        engine: Float[Tensor, "batch actions"],
        action_mask: Shaped[Tensor, "batch actions"],
        corrected: float,
    ) -> None:
        """Log-probabilities and mask. corrected: the share of tokens that is clipped or masked."""
        taken = action_mask.bool()
        log_w = (trainer.detach().double() - engine.double())[taken].cpu()
        if not len(log_w):
            return
        w = log_w.clamp(max=LARGEST_LOG_RATIO).exp()
        parts = (torch.ones_like(w), w, w.square(), -log_w, w - 1 - log_w)
        self.sums += torch.stack([*(part.sum() for part in parts), torch.tensor(float(corrected) * len(w))])
        self.largest = torch.maximum(self.largest, w.max())

    def take(self, add_up: Callable[[Tensor], Tensor], highest: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The step's metrics. add_up, highest: sum and maximum over all ranks; each of them must call this."""
        sums, largest = add_up(self.sums), highest(self.largest)
        self.sums, self.largest = empty()
        return summary(sums, largest)


def empty() -> tuple[Float64[Tensor, "6"], Float64[Tensor, ""]]:
    return torch.zeros(6, dtype=torch.float64), torch.zeros((), dtype=torch.float64)


def summary(sums: Float64[Tensor, "6"], largest: Float64[Tensor, ""]) -> dict[str, float]:
    """Of a step's sums; empty if there are no tokens.

    `kl` is the mean of -log w and `k3_kl` that of w - 1 - log w: both estimate KL(rollout || trainer), the second
    without negative terms. `ess` is (sum w)^2 / (n sum w^2), the effective sample size as a share of the tokens, 1 on
    policy. `ratio_max` is the largest w. `corrected_rate` is the share of tokens that the correction clips or masks.
    """
    tokens, w, squares, kl, k3, corrected = sums.tolist()
    if not tokens:
        return {}
    return {
        "rollout_corr/kl": kl / tokens,
        "rollout_corr/k3_kl": k3 / tokens,
        ESS: w * w / (tokens * squares) if squares else math.nan,
        "rollout_corr/ratio_max": largest.item(),
        "rollout_corr/corrected_rate": corrected / tokens,
    }
