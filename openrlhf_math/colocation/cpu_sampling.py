"""Sampling on the CPU at a twentieth of the cost: one random number for each row, not one for each vocabulary entry."""

from typing import Any

import torch
from vllm.v1.sample.ops import topk_topp_sampler

Tensor = torch.Tensor


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """A token of each row from softmax(logits).

    logits: [batch, vocabulary], -inf where excluded. uniform: float32 [batch, 1], from [0, 1). Returns int64 [batch]; a
    row's token depends on its logits and its number alone.

    Inverse transform sampling: the first token whose cumulative probability is above a uniform number. vLLM divides
    by exponential noise instead, so that a GPU need not wait for the CPU; here the noise, drawn one number at a time,
    costs more than the model's last layer (64 x 49,152: 61 ms).
    """
    cumulative = logits.softmax(dim=-1, dtype=torch.float32).cumsum(dim=-1)
    total = cumulative[:, -1:]
    # Rounded up to the total it would be beyond the last token.
    threshold = torch.minimum(uniform * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1)


def uniform(rows: int, generators: dict[int, torch.Generator]) -> Tensor:
    """A number for each row, float32 [rows, 1]. generators: by row; a row without one takes the global one's."""
    numbers = torch.rand(rows, 1)
    for row, generator in generators.items():
        numbers[row] = torch.rand((), generator=generator)
    return numbers


def install() -> None:
    """Let vLLM's sampler for the CPU in this process use `draw`, for requests with and without their own seeds."""
    if not hasattr(topk_topp_sampler, "compiled_random_sample"):
        raise RuntimeError("vLLM's CPU sampler has no compiled_random_sample: this is not the pinned release of vLLM")
    topk_topp_sampler.compiled_random_sample = lambda logits: draw(logits, uniform(len(logits), {}))
    sampler = topk_topp_sampler.TopKTopPSampler
    if not hasattr(sampler, "without_seeds"):
        sampler.without_seeds = sampler.forward_cpu
        sampler.forward_cpu = _forward_cpu


def _forward_cpu(
    self: Any, logits: Tensor, generators: dict[int, torch.Generator], k: Tensor | None, p: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    if not generators or self.logprobs_mode.startswith("processed"):
        return self.without_seeds(logits, generators, k, p)
    logits = topk_topp_sampler.apply_top_k_top_p(logits, k, p)
    return draw(logits, uniform(len(logits), generators)), None
