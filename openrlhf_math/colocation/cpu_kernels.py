"""Corrections of vLLM's CPU backend: sampling at a twentieth of the cost, rotary embeddings of latent attention."""

from typing import Any

import torch
from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding
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


def install_sampling() -> None:
    """Let vLLM's sampler for the CPU in this process use `draw`, for requests with and without their own seeds."""
    if not hasattr(topk_topp_sampler, "compiled_random_sample"):
        raise RuntimeError("vLLM's CPU sampler has no compiled_random_sample: this is not the pinned release of vLLM")
    topk_topp_sampler.compiled_random_sample = lambda logits: draw(logits, uniform(len(logits), {}))
    sampler = topk_topp_sampler.TopKTopPSampler
    if not hasattr(sampler, "without_seeds"):
        sampler.without_seeds = sampler.forward_cpu
        sampler.forward_cpu = _draw_with_seeds


def _draw_with_seeds(
    self: Any, logits: Tensor, generators: dict[int, torch.Generator], k: Tensor | None, p: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    if not generators or self.logprobs_mode.startswith("processed"):
        return self.without_seeds(logits, generators, k, p)
    logits = topk_topp_sampler.apply_top_k_top_p(logits, k, p)
    return draw(logits, uniform(len(logits), generators)), None


def install_rotary() -> None:
    """Let vLLM's kernel in this process have one row a token. Call it before a model loads.

    vLLM 0.29's kernel takes three dimensions for [batch, tokens, heads * size] and turns few of the heads. DeepSeek-V2
    and V3 then computed log-probabilities that were 0.5 to 1 nats off.
    """
    if not hasattr(RotaryEmbedding, "forward_cpu"):
        raise RuntimeError("vLLM's RotaryEmbedding has no forward_cpu: this is not the pinned release of vLLM")
    if not hasattr(RotaryEmbedding, "for_one_row_a_token"):
        RotaryEmbedding.for_one_row_a_token = RotaryEmbedding.forward_cpu
        RotaryEmbedding.forward_cpu = _one_row_a_token


def _one_row_a_token(
    self: Any, positions: Tensor, query: Tensor, key: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """In place, as vLLM's. positions: int64 [tokens]. query, key: [tokens, heads * size] or [tokens, heads, size]."""
    if positions.dim() != 1 or query.dim() != 3:
        return self.for_one_row_a_token(positions, query, key)
    rows = [None if each is None else each.reshape(len(positions), -1) for each in (query, key)]
    self.for_one_row_a_token(positions, *rows)
    for tensor, turned in zip((query, key), rows, strict=True):
        if tensor is not None and turned is not None:
            tensor.copy_(turned.view(tensor.shape))  # `reshape` may have copied
    return query, key
