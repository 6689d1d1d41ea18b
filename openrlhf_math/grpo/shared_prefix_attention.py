"""Attention over a packed row in which the completions of a group share their prompt.

Registered with Transformers under `NAME`, so every model that asks its `AttentionInterface` can use it. Called
without a layout (a critic, a reward model, a padded batch) it is plain scaled-dot-product attention.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from openrlhf_math.grpo.packing import Layout, Part
from openrlhf_math.grpo.settings import SHARED_PREFIX as NAME

Tensor = torch.Tensor


def register() -> None:
    AttentionInterface.register(NAME, shared_prefix_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def shared_prefix_attention(
    module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask,
    scaling: float,
    layout: Layout | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """Transformers' attention signature. query: [1, heads, tokens, size]; key, value: [1, kv heads, tokens, size].

    Returns [1, tokens, heads, size]. Linear layers see no padding; only here pieces are padded to the longest.
    """
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    prompts = layout.prompts
    prompt_keys, prompt_values = _pieces(key, prompts), _pieces(value, prompts)
    attended = [_row(_attend(_pieces(query, prompts), prompt_keys, prompt_values, prompts.bias, scaling), prompts)]
    for part in layout.completions:
        keys = torch.cat([prompt_keys.index_select(0, part.prompts), _pieces(key, part)], dim=1)
        values = torch.cat([prompt_values.index_select(0, part.prompts), _pieces(value, part)], dim=1)
        attended.append(_row(_attend(_pieces(query, part), keys, values, part.bias, scaling), part))
    return torch.cat(attended).index_select(0, layout.order)[None], None


def _pieces(row: Tensor, part: Part) -> Tensor:
    """[tokens, heads, size] -> [pieces, longest, heads, size]. Four times as fast as `row[part.index]`, backward."""
    return row.index_select(0, part.index.flatten()).unflatten(0, part.index.shape)


def _row(padded: Tensor, part: Part) -> Tensor:
    """[pieces, longest, heads, size] -> [tokens of the part, heads, size], the pieces one after another."""
    return padded.flatten(0, 1).index_select(0, part.real)


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float) -> Tensor:
    """softmax(q k^T * scaling + bias) v. query: [pieces, q, heads, size]; key, value: [pieces, k, kv heads, size];
    bias: [pieces, q, k]. Returns [pieces, q, heads, size].

    The heads that share a key head are further rows of one matrix product, so keys are never repeated.
    """
    pieces, rows, heads, size = query.shape
    kv_heads = key.shape[2]
    group = heads // kv_heads
    query = query.transpose(1, 2).reshape(pieces * kv_heads, group * rows, size)
    key = key.permute(0, 2, 3, 1).reshape(pieces * kv_heads, size, -1)
    value = value.transpose(1, 2).reshape(pieces * kv_heads, -1, size)
    scores = torch.bmm(query * scaling, key).view(pieces, kv_heads * group, rows, -1)
    scores += bias[:, None]  # in place: nothing else reads the scores
    attended = torch.bmm(scores.softmax(dim=-1).view(pieces * kv_heads, group * rows, -1), value)
    return attended.view(pieces, heads, rows, size).transpose(1, 2)
