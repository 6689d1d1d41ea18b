"""Attention that is wrong on purpose, for what must find it."""

import torch


def leaky(query, key, value, layout, seen, scores):
    """Attention in which sequences of one row see each other: the row as if it were one sequence."""
    heads = query.shape[1] // key.shape[1]
    table = torch.einsum("qhs,khs->hqk", query, key.repeat_interleave(heads, 1)) * scores.scaling
    hidden = torch.ones(table.shape[1:], dtype=torch.bool).triu(1)
    return torch.einsum(
        "hqk,khs->qhs", table.masked_fill(hidden, -torch.inf).softmax(-1), value.repeat_interleave(heads, 1)
    )
