"""Attention over a packed row in which the completions of a group share their prompt.

Registered with Transformers under `NAME`, so every model that asks its `AttentionInterface` can use it. Called
without a layout (a critic, a reward model, a padded batch) it is plain scaled-dot-product attention.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from openrlhf_math.grpo.packing import Layout, Segments

NAME = "shared_prefix"
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
    prompt_keys, prompt_values = key[prompts.index], value[prompts.index]
    attended = [_attend(query[prompts.index], prompt_keys, prompt_values, _causal(prompts), scaling)[prompts.mask]]
    places = [prompts.index[prompts.mask]]
    for part in layout.completions:
        its_prompt = layout.prompt_of[part.numbers]
        keys = torch.cat([prompt_keys[its_prompt], key[part.index]], dim=1)
        values = torch.cat([prompt_values[its_prompt], value[part.index]], dim=1)
        own = _causal(part)
        to_prompt = prompts.mask[its_prompt][:, None, :].expand(-1, own.shape[1], -1)
        mask = torch.cat([to_prompt, own], dim=2)
        attended.append(_attend(query[part.index], keys, values, mask, scaling)[part.mask])
        places.append(part.index[part.mask])
    return torch.empty_like(query).index_copy(0, torch.cat(places), torch.cat(attended))[None], None


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float) -> Tensor:
    """softmax(q k^T * scaling) v. query: [segments, q, heads, size]; key, value: [segments, k, kv heads, size];
    mask: [segments, q, k]. Returns [segments, q, heads, size].

    The heads that share a key head are further rows of one matrix product, so keys are never repeated.
    """
    segments, rows, heads, size = query.shape
    kv_heads = key.shape[2]
    group = heads // kv_heads
    query = query.transpose(1, 2).reshape(segments * kv_heads, group * rows, size)
    key = key.permute(0, 2, 3, 1).reshape(segments * kv_heads, size, -1)
    value = value.transpose(1, 2).reshape(segments * kv_heads, -1, size)
    scores = torch.bmm(query * scaling, key).view(segments, kv_heads * group, rows, -1)
    weights = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min).softmax(dim=-1)
    attended = torch.bmm(weights.view(segments * kv_heads, group * rows, -1), value)
    return attended.view(segments, heads, rows, size).transpose(1, 2)


def _causal(pieces: Segments) -> Tensor:
    """[segments, longest, longest]: may a token see another of its piece."""
    longest = pieces.mask.shape[1]
    earlier = torch.ones(longest, longest, dtype=torch.bool, device=pieces.mask.device).tril()
    return earlier & pieces.mask[:, None, :]
