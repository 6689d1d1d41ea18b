"""What a model's configuration says about how it can be trained: which layers it has, and what depends on length."""

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from torch import nn

from openrlhf_math.errors import UserError

# Parts of the names of layers that carry a state from token to token, in `layer_types` and in names of models.
RECURRENT = ("linear", "mamba", "conv", "recurrent", "rwkv", "ssm", "delta", "lightning", "xlstm")
RECURRENT_MODELS = (
    "bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "lfm2", "lfm2_moe", "mamba", "mamba2", "minimax",
    "nemotron_h", "olmo_hybrid", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next",
    "recurrent_gemma", "rwkv", "xlstm", "zamba", "zamba2",
)  # fmt: skip
# Names under which configurations list the kinds of their layers.
LAYER_KINDS = ("layer_types", "layers_block_type", "block_types", "layers_types")
INTERFACE = ("ALL_ATTENTION_FUNCTIONS",)
WINDOW_BUILDERS = ("create_sliding_window_causal_mask", "create_masks_for_generate")
# Names under which they have the most positions of a sequence.
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
# Scalings of rotary embeddings whose frequencies follow the longest sequence of a batch.
DYNAMIC_ROPE = ("dynamic", "longrope")
# Transformers' configuration of a text model: its fields depend on the model.
TextConfig: TypeAlias = Any


@runtime_checkable
class ModelConfig(Protocol):
    """Transformers' configuration of a whole model. The one of its text may be within it."""

    model_type: str

    def get_text_config(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Family:
    """How a kind of model is trained.

    name: its `model_type`. recurrent: the kind of layer that carries a state between tokens, or "". local_attention: a
    window, chunk or soft-cap of its attention, or "". asks_interface: whether its layers ask Transformers'
    AttentionInterface. rows_attention: Transformers' attention where each sequence has its own row, "" for the
    model's default. longest_alike: tokens up to which a sequence has the same rotary frequencies whatever else is in
    its batch. longest_packed_row: tokens of a packed row up to which no layer takes places in the row for positions in
    a sequence.
    """

    name: str
    recurrent: str
    local_attention: str
    asks_interface: bool
    rows_attention: str
    longest_alike: float
    longest_packed_row: float

    @property
    def shares_prompts(self) -> bool:
        """Whether completions can follow one copy of their prompt: no layer carries a state past a completion, and each
        asks Transformers which attention to use."""
        return not self.recurrent and self.asks_interface

    def why_rows(self) -> str:
        """Why completions cannot share their prompt."""
        if self.recurrent:
            return f"its {self.recurrent} layers would carry their state from one completion into the next"
        return "its attention does not go through Transformers' AttentionInterface"

    @classmethod
    def of(cls, config: ModelConfig) -> "Family":
        """config: Transformers' configuration of a whole model."""
        text = config.get_text_config()
        return cls(
            name=config.model_type,
            recurrent=recurrent_layer(text),
            local_attention=_local_attention(text),
            asks_interface=code_names(text, INTERFACE),
            rows_attention="eager" if _only_eager_is_right(text) else "",
            longest_alike=_longest_alike(text),
            longest_packed_row=_longest_packed_row(text),
        )


def recurrent_layer(text: TextConfig) -> str:
    """The kind of layer that carries a state from token to token, "" if there is none."""
    for name in LAYER_KINDS:
        for kind in getattr(text, name, None) or ():
            if any(part in str(kind) for part in RECURRENT):
                return str(kind)
    return text.model_type if text.model_type in RECURRENT_MODELS else ""


def _local_attention(text: TextConfig) -> str:
    named = {
        "a sliding window": getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True),
        "chunked attention": getattr(text, "attention_chunk_size", None),
        "a soft-cap of attention scores": getattr(text, "attn_logit_softcapping", None),
    }
    return next((kind for kind, value in named.items() if value), "")


def _only_eager_is_right(text: TextConfig) -> bool:
    """PyTorch's fused attention leaves out a soft-cap of scores, and sinks."""
    return getattr(text, "attn_logit_softcapping", None) is not None or text.model_type == "gpt_oss"


def _longest_alike(text: TextConfig) -> float:
    limits = []
    for rope in _ropes(text):
        if rope.get("rope_type") in DYNAMIC_ROPE:
            limit = rope.get("original_max_position_embeddings") or getattr(
                text, "original_max_position_embeddings", None
            )
            limits.append(limit or text.max_position_embeddings)
    return min(limits, default=math.inf)


def _ropes(text: TextConfig) -> list[dict]:
    """The settings of rotary embeddings: one for all layers, or one for each kind of layer."""
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    nested = [value for value in rope.values() if isinstance(value, dict)]
    return nested or [rope]


def _longest_packed_row(text: TextConfig) -> float:
    """Llama 4 scales queries of some layers by their place in the row, in steps of `floor_scale` tokens."""
    if getattr(text, "attn_temperature_tuning", False):
        return text.floor_scale - 1
    return math.inf


def reset_dynamic_rope(model: "nn.Module") -> None:
    """Give rotary embeddings their first frequencies back, so that those of a batch do not depend on the ones before.

    Transformers keeps the frequencies of the longest sequence so far (`dynamic_rope_update`).
    """
    for module in model.modules():
        if "dynamic" not in str(getattr(module, "rope_type", "")):
            continue
        for name, _ in [*module.named_buffers(recurse=False), *vars(module).items()]:
            if name.endswith("original_inv_freq"):
                prefix = name.removesuffix("original_inv_freq")
                frequencies = getattr(module, f"{prefix}inv_freq")
                setattr(module, f"{prefix}inv_freq", getattr(module, name).to(frequencies.device))
                setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


def positions(config: ModelConfig) -> float:
    """The most tokens of a sequence that a model has positions for, infinite where it names no limit.

    As vLLM counts them: scaled rotary embeddings reach their factor times as far. config: of a whole model.
    """
    text = config.get_text_config()
    named = [getattr(text, name, None) for name in POSITIONS]
    most = min((each for each in named if isinstance(each, int) and each > 0), default=math.inf)
    ropes = [rope for rope in _ropes(text) if rope.get("rope_type") not in (None, "default", "llama3", "longrope")]
    return max([most, *((rope.get("original_max_position_embeddings") or most) * (rope.get("factor") or 1)
                        for rope in ropes)])  # fmt: skip


def check_window(flag: str, model: str, config: ModelConfig) -> None:
    """Raise UserError if a configuration names a window that no layer of its model uses.

    An engine may use it all the same. config: Transformers' configuration of a whole model.
    """
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None)
    if window is None or getattr(text, "use_sliding_window", True) is False:
        return
    if window < 1:
        raise UserError(f"{flag} {model}: its config.json has a sliding_window of {window} tokens; remove it there")
    kinds = getattr(text, "layer_types", None)
    if (kinds and not any("sliding" in str(kind) for kind in kinds)) or not code_names(text, WINDOW_BUILDERS):
        raise UserError(
            f"{flag} {model}: its config.json names a sliding_window of {window} tokens, which no layer of a "
            f"{text.model_type} model with these settings uses; remove it there, or name the layers that have it in "
            "layer_types"
        )


def code_names(text: TextConfig, names: tuple[str, ...]) -> bool:
    """Whether a model's code in Transformers has one of these names. Its source is read: torch is not imported."""
    package, _, name = type(text).__module__.rpartition(".")
    if not package.startswith("transformers.models.") or not name.startswith("configuration_"):
        return True  # the model's own code, which is unknown
    code = importlib.util.find_spec(f"{package}.{name.replace('configuration_', 'modeling_', 1)}")
    if code is None or code.origin is None:
        return True
    source = Path(code.origin).read_text(encoding="utf-8")
    return any(name in source for name in names)


def check_path(flag: str, model: str, family: Family, shared_prefix: str, ring: int) -> None:
    """Raise UserError if a run asks for a path that would be wrong for a model.

    shared_prefix: `--math.shared_prefix`. ring: `--ds.ring_attn_size`.
    """
    if shared_prefix == "on" and not family.shares_prompts:
        raise UserError(
            f"--math.shared_prefix on: {flag} {model} is of type {family.name}: {family.why_rows()}; leave the flag "
            "out, which gives each sequence its own row"
        )
    if ring > 1 and (family.recurrent or family.local_attention):
        kind = family.recurrent or family.local_attention
        raise UserError(
            f"--ds.ring_attn_size {ring}: {flag} {model} is of type {family.name} and has {kind}, which ring attention "
            "ignores; remove the flag"
        )
