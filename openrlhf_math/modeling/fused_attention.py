"""Attention over a packed row with PyTorch's FlashAttention for CPUs. Its backward pass keeps no scores.

Each call of the kernel has queries of one piece and keys of one: its prompt, or itself. Where queries have both, the
outputs are merged by their log-sum-exps, as FlashAttention merges its blocks (https://arxiv.org/abs/2205.14135,
algorithm 1). Given the merged output and log-sum-exp, the backward kernel computes the gradients of each call.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float

from openrlhf_math.modeling.packing import Layout, Piece
from openrlhf_math.modeling.visibility import Visibility

Tensor = torch.Tensor

BLOCK = 256  # queries of one call where there is a window, or whose scores are there at once
forward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
backward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of one call: places [start, end) of the row, within the piece that begins at `piece`.

    causal: queries and keys are the same tokens. mask: 0 or the lowest number.
    """

    piece: int
    start: int
    end: int
    causal: bool = False
    mask: Float[Tensor, "queries keys"] | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Queries at the places [start, end) of the row, and the keys that they see, in one call or two."""

    start: int
    end: int
    keys: tuple[Keys, ...]


def fused(
    query: Float[Tensor, "tokens heads size"],
    key: Float[Tensor, "tokens kv_heads size"],
    value: Float[Tensor, "tokens kv_heads size"],
    layout: Layout,
    seen: Visibility,
    scaling: float,
) -> Float[Tensor, "tokens heads size"]:
    """On a CPU."""
    spans = layout.once(("fused", seen, query.dtype), lambda: list(spans_of(layout, seen, query.dtype)))
    return Fused.apply(query, key, value, spans, [piece for piece in layout.pieces if not piece.prompt_length], scaling)


def spans_of(layout: Layout, seen: Visibility, dtype: torch.dtype) -> Iterator[Span]:
    longest = BLOCK if seen.window is not None else None
    for piece in layout.pieces:
        for first, end in seen.stretches(piece.prompt_length, piece.path, longest):
            offset = piece.start - piece.prompt_length
            yield Span(offset + first, offset + end, tuple(_keys(piece, first, end, seen, dtype)))


def _keys(piece: Piece, first: int, end: int, seen: Visibility, dtype: torch.dtype) -> Iterator[Keys]:
    """Of the queries at the positions [first, end) of a piece, each of which sees a key of the last call: itself."""
    first_key = seen.first_key(first)
    if first_key < piece.prompt_length:
        mask = _mask(first, end, first_key, piece.prompt_length, seen, dtype)
        start = piece.prompt_start
        yield Keys(start, start + first_key, start + piece.prompt_length, mask=mask)
    first_visible = max(first_key, piece.prompt_length)
    mask = _mask(first, end, first_visible, end, seen, dtype)
    yield Keys(
        piece.start,
        piece.start + first_visible - piece.prompt_length,
        piece.start + end - piece.prompt_length,
        mask is None,
        mask,
    )


def _mask(
    first: int, end: int, first_key: int, end_key: int, seen: Visibility, dtype: torch.dtype
) -> Float[Tensor, "queries keys"] | None:
    if seen.window is None:
        return None
    sees = seen.sees(torch.arange(first, end)[:, None], torch.arange(first_key, end_key)[None, :])
    return torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)


class Fused(torch.autograd.Function):
    """What is kept for the backward pass: query, key, value, the output and its log-sum-exp."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Float[Tensor, "tokens heads size"],
        key: Float[Tensor, "tokens kv_heads size"],
        value: Float[Tensor, "tokens kv_heads size"],
        spans: list[Span],
        prompts: list[Piece],
        scaling: float,
    ) -> Float[Tensor, "tokens heads size"]:
        query, key, value = (each if each.stride(-1) == 1 else each.contiguous() for each in (query, key, value))
        output = torch.empty(query.shape, dtype=query.dtype)
        summed: Tensor | None = None
        for span in spans:
            merged: tuple[Tensor, Tensor] | None = None
            for keys in span.keys:
                found = forward_kernel(
                    _heads(query, span), _heads(key, keys), _heads(value, keys), 0.0, keys.causal,
                    attn_mask=keys.mask, scale=scaling,
                )  # fmt: skip
                merged = found if merged is None else _merged(merged, found)
            assert merged is not None  # a span has keys
            if summed is None:
                summed = torch.empty(query.shape[:2], dtype=merged[1].dtype)
            _heads(output, span).copy_(merged[0])
            summed[span.start : span.end].copy_(merged[1][0].T)
        ctx.save_for_backward(query, key, value, output, summed)
        ctx.spans, ctx.prompts, ctx.scaling = spans, prompts, scaling
        return output

    @staticmethod
    def backward(ctx: Any, slope: Float[Tensor, "tokens heads size"]) -> tuple[Tensor | None, ...]:
        query, key, value, output, summed = ctx.saved_tensors
        slope = slope if slope.stride(-1) == 1 else slope.contiguous()
        # Every completion adds to its prompt's: a sum of many in bfloat16 would lose the small ones.
        exact = torch.promote_types(key.dtype, torch.float32)
        of_prompts = {
            piece.start: [torch.zeros(piece.length, *each.shape[1:], dtype=exact) for each in (key, value)]
            for piece in ctx.prompts
        }
        of_query, of_key, of_value = (torch.zeros_like(each) for each in (query, key, value))
        for span in ctx.spans:
            for keys in span.keys:
                gradients = backward_kernel(
                    _heads(slope, span), _heads(query, span), _heads(key, keys), _heads(value, keys),
                    _heads(output, span), summed[span.start : span.end].T[None], 0.0, keys.causal,
                    attn_mask=keys.mask, scale=ctx.scaling,
                )  # fmt: skip
                _heads(of_query, span).add_(gradients[0])
                places = slice(keys.start, keys.end)
                sums = [of_key[places], of_value[places]]
                if keys.piece in of_prompts:
                    sums = [each[keys.start - keys.piece : keys.end - keys.piece] for each in of_prompts[keys.piece]]
                for total, gradient in zip(sums, gradients[1:], strict=True):
                    total.add_(gradient[0].transpose(0, 1))
        for start, sums in of_prompts.items():
            for gradient, total in zip((of_key, of_value), sums, strict=True):
                gradient[start : start + len(total)].copy_(total)
        return of_query, of_key, of_value, None, None, None


def _heads(row: Float[Tensor, "tokens heads size"], places: Span | Keys) -> Float[Tensor, "1 heads places size"]:
    """A view."""
    return row[places.start : places.end].transpose(0, 1)[None]


Output = tuple[Float[Tensor, "1 heads queries size"], Float[Tensor, "1 heads queries"]]


def _merged(one: Output, other: Output) -> Output:
    """Outputs and log-sum-exps of different keys, as of all of them."""
    share = torch.sigmoid(other[1] - one[1])[..., None]
    return torch.lerp(one[0].to(share.dtype), other[0].to(share.dtype), share), torch.logaddexp(one[1], other[1])
