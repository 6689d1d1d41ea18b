"""Transformers' attention over a packed row in which the completions of a group share their prompt.

Registered with Transformers under `SHARED_PREFIX`: the models that ask its `AttentionInterface` then use it. While a
`packed_row` is open, a model that builds its masks gets a `RowMask` in their place and hands it to each of its layers:
the model itself says which layer has a window. Elsewhere (a critic, rows with padding) this is PyTorch's
scaled-dot-product attention.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

from openrlhf_math.modeling import SHARED_PREFIX
from openrlhf_math.modeling.attention import Scores, attend
from openrlhf_math.modeling.packing import Layout
from openrlhf_math.modeling.visibility import UnsupportedMask, Visibility, visibility_of

Tensor = torch.Tensor

# Arguments of a layer that change nothing here: what becomes of dropout, see `PackedActor`.
IGNORED = {
    "dropout", "is_causal", "position_ids", "use_cache", "output_attentions", "output_hidden_states", "cache_position",
    "output_router_logits", "return_dict", "position_embeddings", "past_key_values", "logits_to_keep",
}  # fmt: skip

_open: Layout | None = None


@dataclass(frozen=True, slots=True)
class RowMask:
    """What a layer gets in place of a mask: the row's layout, and what a token of this layer sees."""

    layout: Layout
    seen: Visibility


def register() -> None:
    AttentionInterface.register(SHARED_PREFIX, shared_prefix_attention)
    AttentionMaskInterface.register(SHARED_PREFIX, row_mask)


@contextmanager
def packed_row(layout: Layout) -> Iterator[None]:
    """The model that is called in this block gets a packed row of this layout."""
    global _open
    _open = layout
    try:
        yield
    finally:
        _open = None


def row_mask(
    *args: Any,
    mask_function: Callable[..., Tensor] = causal_mask_function,
    local_size: int | None = None,
    device: torch.device | str = "cpu",
    **kwargs: Any,
) -> RowMask | Tensor | None:
    """Transformers' mask signature. Raises UnsupportedMask for a mask that a row has no way to express."""
    if _open is None:
        return sdpa_mask(*args, mask_function=mask_function, local_size=local_size, device=device, **kwargs)
    return RowMask(_open, visibility_of(mask_function, local_size, _open.tokens, device))


def shared_prefix_attention(
    module: nn.Module,
    query: Float[Tensor, "1 heads tokens size"],
    key: Float[Tensor, "1 kv_heads tokens size"],
    value: Float[Tensor, "1 kv_heads tokens value_size"],
    attention_mask: RowMask | Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Float[Tensor, " heads"] | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "1 tokens heads value_size"], None]:
    """Transformers' attention signature.

    softcap: of scores. s_aux: the sinks of the heads.
    Raises UnsupportedMask if the layer is not given the row's mask, or wants something that is not known here.
    """
    if not isinstance(attention_mask, RowMask):
        if _open is not None:
            raise UnsupportedMask("a layer does not get the attention mask of its model")
        local = {"softcap": softcap, "s_aux": s_aux, "sliding_window": sliding_window}
        given = {name: value for name, value in local.items() if value is not None}
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **given, **kwargs)
    unknown = sorted(name for name, value in kwargs.items() if name not in IGNORED and value is not None)
    if unknown:
        raise UnsupportedMask(f"its attention takes {', '.join(unknown)}")
    seen, layout = attention_mask.seen, attention_mask.layout
    if sliding_window is not None and sliding_window < layout.tokens and seen.window != sliding_window:
        raise UnsupportedMask(f"a layer names a window of {sliding_window} tokens, its mask has {seen.window}")
    scores = Scores(scaling if scaling is not None else query.shape[-1] ** -0.5, softcap, s_aux)
    queries, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))
    return attend(queries, keys, values, layout, seen, scores)[None], None
