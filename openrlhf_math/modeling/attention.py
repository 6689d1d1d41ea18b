"""softmax(q k^T) v over the pieces of a packed row, in four ways that give the same numbers.

`dense` builds the matrix of scores: the fastest way for short pieces, and it takes soft-caps and sinks. `blocks` does
the same for a few hundred queries at a time and computes their scores again in the backward pass. `fused` is PyTorch's
FlashAttention for CPUs, `varlen` the one for CUDA. The memory of the last three grows linearly with the length.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn
from torch.utils.checkpoint import checkpoint

from openrlhf_math.modeling.fused_attention import BLOCK, fused
from openrlhf_math.modeling.packing import Layout, Part
from openrlhf_math.modeling.visibility import Visibility

Tensor = torch.Tensor

# Tokens from the start of the prompt to the end of a completion up to which the matrix of scores is faster on a CPU
# (tests/benchmarks/long_context.py).
SHORT = 768
LARGEST_HEAD, HEAD_STEP = 256, 8  # FlashAttention takes heads of 8, 16, ... 256 elements, the same for all three
FLASH_CAPABILITY = (8, 0)  # of a CUDA device: Ampere


@dataclass(frozen=True, slots=True)
class Scores:
    """How scores are made: scaling q k^T, then softcap tanh(x / softcap), then a sink for each head.

    sinks: a further score in the softmax whose value is 0. StreamingLLM, https://arxiv.org/abs/2309.17453.
    """

    scaling: float
    softcap: float | None = None
    sinks: Float[Tensor, " heads"] | None = None

    @property
    def plain(self) -> bool:
        return self.softcap is None and self.sinks is None


def attend(
    query: Float[Tensor, "tokens heads size"],
    key: Float[Tensor, "tokens kv_heads size"],
    value: Float[Tensor, "tokens kv_heads value_size"],
    layout: Layout,
    seen: Visibility,
    scores: Scores,
) -> Float[Tensor, "tokens heads value_size"]:
    """Attention of a packed row, in the way that is best for its lengths and device."""
    if scores.plain and takes_varlen(query, value):
        return varlen(query, key, value, layout, seen, scores.scaling)
    if scores.plain and query.device.type == "cpu" and layout.longest_path > SHORT:
        return _of_one_size(fused, query, key, value, layout, seen, scores.scaling)
    parts, order = layout.parts(SHORT)
    attended = []
    for part in parts:
        pieces = (_gathered(query, part.queries), _gathered(key, part.keys), _gathered(value, part.keys))
        short = part.keys.shape[1] <= SHORT or part.prompt_length is None
        done = dense(*pieces, part, seen, scores, layout) if short else blocks(*pieces, part, seen, scores, layout)
        attended.append(done.flatten(0, 1).index_select(0, part.real))
    return torch.cat(attended).index_select(0, order)


def _of_one_size(
    kernel: Callable[..., Tensor],
    query: Float[Tensor, "tokens heads size"],
    key: Float[Tensor, "tokens kv_heads size"],
    value: Float[Tensor, "tokens kv_heads value_size"],
    *others: object,
) -> Float[Tensor, "tokens heads value_size"]:
    """FlashAttention with heads widened to one size: zeros at the end of a head change no score."""
    value_size = value.shape[-1]
    largest = max(query.shape[-1], value_size)
    widened = (_widened(each, largest + -largest % HEAD_STEP) for each in (query, key, value))
    return kernel(*widened, *others)[..., :value_size]


def _widened(heads: Float[Tensor, "tokens heads narrow"], size: int) -> Float[Tensor, "tokens heads {size}"]:
    """With zeros at the end."""
    return heads if heads.shape[-1] == size else F.pad(heads, (0, size - heads.shape[-1]))


def _gathered(
    row: Float[Tensor, "tokens heads size"], places: Int64[Tensor, "pieces places"]
) -> Float[Tensor, "pieces places heads size"]:
    """Four times as fast as `row[places]`, backward."""
    return row.index_select(0, places.flatten()).unflatten(0, places.shape)


def dense(
    query: Float[Tensor, "pieces queries heads size"],
    key: Float[Tensor, "pieces keys kv_heads size"],
    value: Float[Tensor, "pieces keys kv_heads value_size"],
    part: Part,
    seen: Visibility,
    scores: Scores,
    layout: Layout,
) -> Float[Tensor, "pieces queries heads value_size"]:
    """By the matrix of scores."""
    bias = layout.once(("bias", id(part), seen, query.dtype), lambda: _bias(part, seen, query.dtype))
    return _dense(query, key, value, bias, scores)


def _bias(part: Part, seen: Visibility, dtype: torch.dtype) -> Float[Tensor, "pieces queries keys"]:
    """To add to scores: 0 where a token sees the key, else the lowest number."""
    sees = seen.sees(part.query_positions[:, :, None], part.key_positions[:, None, :]) & part.real_keys[:, None, :]
    return _lowest_where(~sees, dtype)


def _lowest_where(hidden: Bool[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, torch.finfo(dtype).min)


def _dense(
    query: Float[Tensor, "pieces queries heads size"],
    key: Float[Tensor, "pieces keys kv_heads size"],
    value: Float[Tensor, "pieces keys kv_heads value_size"],
    bias: Float[Tensor, "#pieces queries keys"],
    scores: Scores,
) -> Float[Tensor, "pieces queries heads value_size"]:
    """The heads that share a key head are further rows of one matrix product."""
    pieces, rows, heads, size = query.shape
    kv_heads = key.shape[2]
    group = heads // kv_heads
    query = query.transpose(1, 2).reshape(pieces * kv_heads, group * rows, size)
    key = key.permute(0, 2, 3, 1).reshape(pieces * kv_heads, size, -1)
    value = value.transpose(1, 2).reshape(pieces * kv_heads, key.shape[2], -1)
    table = torch.bmm(query * scores.scaling, key).view(pieces, heads, rows, -1)
    if scores.softcap is not None:
        table = scores.softcap * torch.tanh(table / scores.softcap)
    table = table.add_(bias[:, None]) if scores.softcap is None else table + bias[:, None]
    if scores.sinks is None:
        weights = table.softmax(dim=-1)
    else:
        sinks = scores.sinks.to(table.dtype)[None, :, None, None].expand(pieces, -1, rows, 1)
        weights = torch.cat([table, sinks], dim=-1).softmax(dim=-1)[..., :-1]
    attended = torch.bmm(weights.reshape(pieces * kv_heads, group * rows, -1), value)
    return attended.view(pieces, heads, rows, -1).transpose(1, 2)


@dataclass(frozen=True, slots=True)
class Block:
    """Queries [first, end) of each piece and the keys [first_key, end_key) that some of them see."""

    first: int
    end: int
    first_key: int
    end_key: int


def blocks_of(queries: int, prompt_length: int, seen: Visibility) -> Iterator[Block]:
    """Blocks of at most BLOCK queries; in chunked attention none goes over the end of a chunk."""
    for first, end in seen.stretches(prompt_length, prompt_length + queries, BLOCK):
        yield Block(first - prompt_length, end - prompt_length, seen.first_key(first), end)


def blocks(
    query: Float[Tensor, "pieces queries heads size"],
    key: Float[Tensor, "pieces keys kv_heads size"],
    value: Float[Tensor, "pieces keys kv_heads value_size"],
    part: Part,
    seen: Visibility,
    scores: Scores,
    layout: Layout,
) -> Float[Tensor, "pieces queries heads value_size"]:
    """As `dense`, for pieces whose prompts are of one length; the backward pass computes a block's scores again.

    Keys beyond a piece's end are later than all its queries. What a query of a block sees depends on how far it and the
    key are from the block's end, and on nothing else: the masks of all blocks are corners of one.
    """
    largest = min(key.shape[1], BLOCK + seen.window if seen.window is not None else key.shape[1])
    corner = layout.once(
        ("corner", largest, seen.window, query.dtype), lambda: _corner(largest, seen.window, query.dtype, query.device)
    )
    attended = []
    assert part.prompt_length is not None
    for block in blocks_of(query.shape[1], part.prompt_length, seen):
        rows, columns = block.end - block.first, block.end_key - block.first_key
        mine, keys = query[:, block.first : block.end], slice(block.first_key, block.end_key)
        mask = corner[:, BLOCK - rows :, largest - columns :]
        attended.append(checkpoint(_dense, mine, key[:, keys], value[:, keys], mask, scores, use_reentrant=False))
    return torch.cat(attended, dim=1)


def _corner(
    keys: int, window: int | None, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "1 queries {keys}"]:
    """The bias of the last BLOCK queries towards the last `keys` keys."""
    query, key = torch.arange(keys, keys + BLOCK, device=device), torch.arange(BLOCK, BLOCK + keys, device=device)
    sees = Visibility(window=window).sees(query[:, None], key[None, :])
    return _lowest_where(~sees, dtype)[None]


def takes_varlen(query: Float[Tensor, "tokens heads size"], value: Float[Tensor, "tokens kv_heads value_size"]) -> bool:
    """Whether PyTorch's FlashAttention runs with such queries and values."""
    return (
        query.is_cuda
        and query.dtype in (torch.float16, torch.bfloat16)
        and max(query.shape[-1], value.shape[-1]) <= LARGEST_HEAD
        and torch.cuda.get_device_capability(query.device) >= FLASH_CAPABILITY
    )


@dataclass(frozen=True, slots=True)
class Spans:
    """Queries of a row in spans, and the keys of each: cumulated lengths from 0 on, and the longest.

    keys: places in the row of the keys of all spans.
    """

    cumulated_queries: Int32[Tensor, " ends"]
    cumulated_keys: Int32[Tensor, " ends"]
    longest_queries: int
    longest_keys: int
    keys: Int64[Tensor, " keys"]


def spans_of(layout: Layout, seen: Visibility) -> Spans:
    """A span is a piece, or the part of it in one chunk, with the keys that its queries see.

    Queries and keys end at the same token, as FlashAttention's causal mask has it.
    """
    places = torch.arange(layout.tokens)
    queries, keys = [], []
    for piece in layout.pieces:
        path = torch.cat([
            places[piece.prompt_start : piece.prompt_start + piece.prompt_length],
            places[piece.start : piece.start + piece.length],
        ])  # fmt: skip
        for first, end in seen.stretches(piece.prompt_length, piece.path):
            queries.append(end - first)
            keys.append(path[seen.first_key(first) : end])

    def cumulated(lengths: list[int]) -> Int32[Tensor, " spans"]:
        return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(layout.device)

    key_lengths = [len(each) for each in keys]
    return Spans(
        cumulated(queries), cumulated(key_lengths), max(queries), max(key_lengths), torch.cat(keys).to(layout.device)
    )


def varlen(
    query: Float[Tensor, "tokens heads size"],
    key: Float[Tensor, "tokens kv_heads size"],
    value: Float[Tensor, "tokens kv_heads value_size"],
    layout: Layout,
    seen: Visibility,
    scaling: float,
) -> Float[Tensor, "tokens heads value_size"]:
    """As `attend`, with keys and values of the prompt copied in front of each completion's."""
    return _of_one_size(
        _varlen, query, key, value, layout.once(("spans", seen), lambda: spans_of(layout, seen)), seen, scaling
    )


def _varlen(
    query: Float[Tensor, "tokens heads size"],
    key: Float[Tensor, "tokens kv_heads size"],
    value: Float[Tensor, "tokens kv_heads size"],
    spans: Spans,
    seen: Visibility,
    scaling: float,
) -> Float[Tensor, "tokens heads size"]:
    attended = varlen_attn(
        query,
        key.index_select(0, spans.keys),
        value.index_select(0, spans.keys),
        spans.cumulated_queries,
        spans.cumulated_keys,
        spans.longest_queries,
        spans.longest_keys,
        scale=scaling,
        window_size=(-1 if seen.window is None else seen.window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(attended, Tensor)  # without return_aux
    return attended
