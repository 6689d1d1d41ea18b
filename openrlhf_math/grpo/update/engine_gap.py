"""How far the engine's log-probabilities are from the trainer's for the same tokens.

Under the same weights, the gap of a token is |log pi_trainer - log pi_engine|, nats. Its mean over a batch hides a
fault that only some tokens have, such as an attention window that one side ignores, so the mean of every range of
positions and a high quantile are checked, too. Quantiles of micro-batches and ranks cannot be averaged: tokens are
counted in bins of fixed gaps, and the counts are added.

Of a token that the engine sampled, the importance weight is w = pi(o_t) / pi_rollout(o_t), with pi the policy before
the step. The names of these metrics begin as verl's do, with `rollout_corr/`.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Float64, Int64, Shaped

from openrlhf_math.grpo.losses import LARGEST_LOG_RATIO

Tensor = torch.Tensor

# Bins of the gap, in nats: the lower bound of the first and how many there are to a factor of 10. The last is open.
SMALLEST, BINS_A_DECADE, DECADES = 1e-4, 16, 6
BINS = BINS_A_DECADE * DECADES + 2

# Ranges of positions in a sequence, prompt included: [0, 16), [16, 23), [23, 32), ..., two to a factor of 2.
FIRST_POSITION, RANGES_AN_OCTAVE, OCTAVES = 16, 2, 20
RANGES = RANGES_AN_OCTAVE * OCTAVES + 2

Counts: TypeAlias = Float64[Tensor, " counts"]  # BINS + 2 * RANGES, see `count`

# A range with fewer action tokens says little: its mean has an error of a fifth where gaps have a wide spread.
FEWEST_TOKENS = 500
QUANTILE = 0.99
# The bound of the quantile, in bounds of the mean. Of a sound mixture in bfloat16, whose router now and then chooses
# another expert, about one token in a hundred is 0.6 nats off, ten times the mean.
QUANTILE_BOUNDS = 10.0

CAUSES = (
    "the engine has other weights than the trainer; one of them ignores a window, a soft-cap or a scale of the model's "
    "attention, or has other rotary frequencies; their dtypes differ; or sampling settings such as top-p change what "
    "the engine reports"
)


class GapTally:
    """Counts of one step, to which every micro-batch adds."""

    def __init__(self) -> None:
        self.counts = empty()

    def add(
        self,
        trainer: Float[Tensor, "batch actions"],
        engine: Float[Tensor, "batch actions"],
        action_mask: Shaped[Tensor, "batch actions"],
    ) -> None:
        """Log-probabilities and mask. Column t is of the token at position t + 1 of its sequence."""
        self.counts += count(trainer, engine, action_mask).to(self.counts.device)

    def take(self, add_up: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The step's metrics. add_up: the sum of a tensor over all ranks; each of them must call this."""
        counts, self.counts = self.counts, empty()
        return summary(add_up(counts))


def empty() -> Counts:
    return torch.zeros(BINS + 2 * RANGES, dtype=torch.float64)


def count(
    trainer: Float[Tensor, "batch actions"],
    engine: Float[Tensor, "batch actions"],
    action_mask: Shaped[Tensor, "batch actions"],
) -> Counts:
    """Tokens in each bin of the gap; tokens, then sums of the gap, of each range."""
    gap = (trainer.detach().float() - engine.float()).abs()
    taken = action_mask.bool()
    positions = torch.arange(1, gap.shape[1] + 1, device=gap.device).expand_as(gap)[taken]
    gap = gap[taken].double()
    bins = torch.bucketize(gap, bin_bounds().to(gap.device), right=True)
    ranges = torch.bucketize(positions, range_bounds().to(gap.device), right=True)
    zeros = torch.zeros(RANGES, dtype=torch.float64, device=gap.device)
    return torch.cat([
        torch.bincount(bins, minlength=BINS).double(),
        torch.bincount(ranges, minlength=RANGES).double(),
        zeros.index_add(0, ranges, gap),
    ])  # fmt: skip


def bin_bounds() -> Float64[Tensor, " bounds"]:
    """BINS - 1 of them."""
    return SMALLEST * 10 ** (torch.arange(BINS - 1, dtype=torch.float64) / BINS_A_DECADE)


def range_bounds() -> Int64[Tensor, " bounds"]:
    """RANGES - 1 of them: where each range but the first begins."""
    return (FIRST_POSITION * 2 ** (torch.arange(RANGES - 1, dtype=torch.float64) / RANGES_AN_OCTAVE)).round().long()


def summary(counts: Counts) -> dict[str, float]:
    """Of counts of one step or of several added up; empty if there are none.

    `logprob_gap` is the mean, `logprob_gap_p99` the 99th percentile to within 15%, `logprob_gap_worst` the largest
    mean of a range of positions that has enough tokens, or where none has the mean of all, and
    `logprob_gap_worst_from` where this range begins. NaN where a gap is NaN.
    """
    bins, tokens, sums = counts.split([BINS, RANGES, RANGES])
    if not tokens.sum():
        return {}
    mean = (sums.sum() / tokens.sum()).item()
    worst, begin = mean, 0
    means = torch.where(tokens >= FEWEST_TOKENS, sums / tokens.clamp(min=1), -1.0)
    if means.max() >= 0:
        number = int(means.argmax())
        worst, begin = means[number].item(), 0 if number == 0 else int(range_bounds()[number - 1])
    return {
        "logprob_gap": mean,
        "logprob_gap_p99": math.nan if math.isnan(mean) else quantile(bins, QUANTILE),
        "logprob_gap_worst": worst,
        "logprob_gap_worst_from": float(begin),
    }


def quantile(bins: Float64[Tensor, " bins"], share: float) -> float:
    """The upper bound of the bin that a share of the tokens reaches, nats; of the last, which is open, its lower."""
    reached = int(torch.searchsorted(bins.cumsum(0), share * bins.sum()))
    return bin_bounds()[min(reached, BINS - 2)].item()


def check(record: dict, bound: float) -> None:
    """Raise RuntimeError if trainer and engine differ too much. record: a step's metrics. bound: nats a token."""
    kinds = (
        ("logprob_gap", bound, "on average"),
        ("logprob_gap_worst", bound, "on average from position {logprob_gap_worst_from:.0f} on"),
        ("logprob_gap_p99", QUANTILE_BOUNDS * bound, "at the 99th percentile"),
    )
    for name, limit, where in kinds:
        if record.get(name, 0.0) > limit:
            times = "" if limit == bound else f"{QUANTILE_BOUNDS:g} times "
            raise RuntimeError(
                f"step {record['step']}: trainer and vLLM differ by {record[name]:.3f} nats a token "
                f"{where.format(**record)}, above {times}--math.max_logprob_gap {bound:g}. Likely causes: {CAUSES}"
            )


ESS = "rollout_corr/ess"


class WeightTally:
    """Sums of one step, to which every micro-batch adds: tokens, w, w^2, -log w, w - 1 - log w, corrected tokens."""

    def __init__(self) -> None:
        self.sums, self.largest = no_weights()

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
        self.sums, self.largest = no_weights()
        return weight_summary(sums, largest)


def no_weights() -> tuple[Float64[Tensor, "6"], Float64[Tensor, ""]]:
    return torch.zeros(6, dtype=torch.float64), torch.zeros((), dtype=torch.float64)


def weight_summary(sums: Float64[Tensor, "6"], largest: Float64[Tensor, ""]) -> dict[str, float]:
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
