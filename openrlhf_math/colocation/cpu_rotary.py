"""Rotary embeddings on the CPU for queries that come as [tokens, heads, size], as those of latent attention do."""

from typing import Any

import torch
from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding

Tensor = torch.Tensor


def install() -> None:
    """Let vLLM's kernel in this process have one row a token. Call it before a model loads.

    vLLM 0.29's kernel takes three dimensions for [batch, tokens, heads * size] and turns few of the heads. DeepSeek-V2
    and V3 then computed log-probabilities that were 0.5 to 1 nats off.
    """
    if not hasattr(RotaryEmbedding, "forward_cpu"):
        raise RuntimeError("vLLM's RotaryEmbedding has no forward_cpu: this is not the pinned release of vLLM")
    if not hasattr(RotaryEmbedding, "for_one_row_a_token"):
        RotaryEmbedding.for_one_row_a_token = RotaryEmbedding.forward_cpu
        RotaryEmbedding.forward_cpu = _forward_cpu


def _forward_cpu(
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
