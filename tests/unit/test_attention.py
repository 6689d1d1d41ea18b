"""Attention over a packed row: each of its three ways is softmax(q k^T) v, one token of one sequence at a time."""

import math
from functools import cache

import pytest
import torch
from torch.nn import functional as F

from openrlhf_math.modeling import attention, fused_attention
from openrlhf_math.modeling.attention import Scores, attend
from openrlhf_math.modeling.packing import pack
from openrlhf_math.modeling.visibility import UnsupportedMask, Visibility, visibility_of

HEADS, KV_HEADS, SIZE, VALUE_SIZE = 6, 2, 12, 5
GROUPS = [(7, [9, 3, 1]), (19, [2, 30]), (1, [12])]  # prompt length, tokens of the completions
SEEN = [Visibility(), Visibility(window=1), Visibility(window=6), Visibility(chunk=5), Visibility(chunk=8)]
SINKS = torch.linspace(-1, 2, HEADS)


def paths() -> list[list[int]]:
    """Places in the row of each sequence, by hand: a prompt, then its completions without the last token."""
    found, row = [], 0
    for prompt, completions in GROUPS:
        first = list(range(row, row + prompt))
        row += prompt
        for count in completions:
            found.append(first + list(range(row, row + count - 1)))
            row += count - 1
    return found


def layout():
    rows = [
        (prompt, torch.cat([torch.full((prompt,), number + 1), torch.full((count,), 9)]))
        for number, (prompt, completions) in enumerate(GROUPS)
        for count in completions
    ]
    longest = max(len(row) for _, row in rows)
    sequences = torch.stack([F.pad(row, (0, longest - len(row))) for _, row in rows])
    actions = torch.zeros(len(rows), longest - 1, dtype=torch.bool)
    for number, (prompt, row) in enumerate(rows):
        actions[number, prompt - 1 : len(row) - 1] = True
    return pack(sequences, (sequences > 0).long(), actions).layout


def naive(query, key, value, seen: Visibility, scaling, softcap, sinks):
    """By the definitions of window and chunk, with Python's own loops and no matrix of scores."""
    attended = torch.zeros(len(query), HEADS, value.shape[2], dtype=query.dtype)
    for path in paths():
        for position, place in enumerate(path):
            visible = [
                other
                for at, other in enumerate(path[: position + 1])
                if (seen.window is None or at > position - seen.window)
                and (seen.chunk is None or at // seen.chunk == position // seen.chunk)
            ]
            for head in range(HEADS):
                kv = head // (HEADS // KV_HEADS)
                scores = torch.stack([query[place, head] @ key[other, kv] * scaling for other in visible])
                if softcap:
                    scores = softcap * torch.tanh(scores / softcap)
                top = scores.exp()
                rest = sinks[head].exp() if sinks is not None else 0
                values = torch.stack([value[other, kv] for other in visible])
                attended[place, head] = (top[:, None] * values).sum(dim=0) / (top.sum() + rest)
    return attended


def states(value_size, dtype=torch.float64):
    torch.manual_seed(0)
    tokens = layout().tokens
    shapes = ((tokens, HEADS, SIZE), (tokens, KV_HEADS, SIZE), (tokens, KV_HEADS, value_size))
    return [torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in shapes]


@cache
def truth(seen, softcap, with_sinks, value_size):
    """Leaves of the computation, what it gives, a slope for each element of it, and the gradients of the leaves."""
    inputs = states(value_size)
    sinks = SINKS.double().requires_grad_() if with_sinks else None
    leaves = inputs + ([sinks] if with_sinks else [])
    expected = naive(*inputs, seen, 0.3, softcap, sinks)
    slope = torch.randn_like(expected)
    return leaves, expected.detach(), slope, torch.autograd.grad((expected * slope).sum(), leaves)


def check(run, seen, softcap=None, with_sinks=False, value_size=VALUE_SIZE):
    """run: of query, key, value and scores."""
    leaves, expected, slope, gradients = truth(seen, softcap, with_sinks, value_size)
    found = run(*leaves[:3], Scores(0.3, softcap, leaves[3] if with_sinks else None))
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-8)
    for one, other in zip(torch.autograd.grad((found * slope).sum(), leaves), gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("seen", SEEN, ids=str)
@pytest.mark.parametrize("sizes", [(1000, 256), (0, 4), (0, 256), (12, 3)], ids=["short", "blocks", "one", "mixed"])
@pytest.mark.parametrize(
    ("softcap", "sinks"), [(None, False), (1.5, False), (None, True)], ids=["plain", "cap", "sink"]
)
def test_segments_attend_to_their_prompt_and_themselves(monkeypatch, seen, sizes, softcap, sinks):
    """sizes: the path up to which a piece is short, and the queries of a block."""
    monkeypatch.setattr(attention, "SHORT", sizes[0])
    monkeypatch.setattr(attention, "BLOCK", sizes[1])
    monkeypatch.setattr(fused_attention, "BLOCK", sizes[1])
    check(lambda q, k, v, scores: attend(q, k, v, layout(), seen, scores), seen, softcap, sinks)


def plain_varlen(query, key, value, queries, keys, most_queries, most_keys, *, scale, window_size, enable_gqa):
    """What PyTorch documents of `varlen_attn`: separate spans, masks aligned at the end of queries and keys.

    Its kernel, FlashAttention 2, wants heads of one size, a multiple of 8.
    """
    assert enable_gqa and query.shape[2] == key.shape[2] == value.shape[2] and window_size[1] == 0
    assert query.shape[2] % 8 == 0 and query.stride(2) == 1
    assert queries.dtype == keys.dtype == torch.int32
    done = []
    for first, end, first_key, end_key in zip(queries, queries[1:], keys, keys[1:], strict=False):
        rows, columns = int(end - first), int(end_key - first_key)
        assert rows <= most_queries and columns <= most_keys
        row, column = torch.arange(rows)[:, None] + columns - rows, torch.arange(columns)[None]
        mask = column <= row
        if window_size[0] >= 0:
            mask = mask & (column >= row - window_size[0])
        one, other, third = query[first:end], key[first_key:end_key], value[first_key:end_key]
        each = HEADS // KV_HEADS
        other, third = other.repeat_interleave(each, dim=1), third.repeat_interleave(each, dim=1)
        table = torch.einsum("qhs,khs->hqk", one, other) * scale
        done.append(torch.einsum("hqk,khs->qhs", table.masked_fill(~mask, -math.inf).softmax(dim=-1), third))
    return torch.cat(done)


@pytest.mark.parametrize("value_size", [VALUE_SIZE, SIZE, 20])
@pytest.mark.parametrize("seen", SEEN, ids=str)
def test_spans_for_a_varlen_kernel_see_the_same(monkeypatch, seen, value_size):
    monkeypatch.setattr(attention, "varlen_attn", plain_varlen)
    row = layout()
    check(lambda q, k, v, scores: attention.varlen(q, k, v, row, seen, scores.scaling), seen, value_size=value_size)


def test_no_block_builds_a_full_score_matrix(monkeypatch):
    """The largest tensor that the backward pass keeps grows with the length, not with its square."""
    monkeypatch.setattr(attention, "BLOCK", 16)
    monkeypatch.setattr(attention, "SHORT", 32)

    def largest(length: int, softcap) -> int:
        sequence = torch.ones(2, length + 8, dtype=torch.long)
        actions = torch.zeros(2, length + 7, dtype=torch.bool)
        actions[:, 7:] = True
        row = pack(sequence, torch.ones_like(sequence), actions).layout
        inputs = [torch.randn(row.tokens, heads, SIZE, requires_grad=True) for heads in (HEADS, KV_HEADS, KV_HEADS)]
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.untyped_storage().nbytes()) or t, id):
            attend(*inputs, row, Visibility(), Scores(0.3, softcap))
        return max(sizes)

    for softcap in (None, 2.0):
        assert largest(512, softcap) < 4.5 * largest(128, softcap)


@pytest.mark.parametrize(
    ("function", "local_size", "seen"),
    [
        (lambda b, h, q, k: k <= q, None, Visibility()),
        (lambda b, h, q, k: (k <= q) & (k > q - 7), 7, Visibility(window=7)),
        (lambda b, h, q, k: (k <= q) & (k // 7 == q // 7), 7, Visibility(chunk=7)),
        (lambda b, h, q, k: (k <= q) & (k > q - 70), 70, Visibility()),  # no sequence is as long
    ],
)
def test_visible_tokens_follow_the_models_mask(function, local_size, seen):
    assert visibility_of(function, local_size, 40, "cpu") == seen


@pytest.mark.parametrize(
    ("function", "local_size"),
    [
        (lambda b, h, q, k: k <= q + 1, None),
        (lambda b, h, q, k: (k <= q) & (k > q - 6), 7),
        (lambda b, h, q, k: (k <= q) & ((k > q - 7) | (k == 0)), 7),
        (lambda b, h, q, k: (k <= q) & (k % 2 == q % 2), None),
    ],
)
def test_unsupported_mask_is_refused(function, local_size):
    with pytest.raises(UnsupportedMask):
        visibility_of(function, local_size, 40, "cpu")
