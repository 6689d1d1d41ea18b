"""Whether a model is one that can be trained here: a language model that generates, in a form that libraries know."""

import json
import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.data.places import why_missing
from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.errors import UserError
from openrlhf_math.modeling.families import Family, ModelConfig, check_path, check_window, positions
from openrlhf_math.patches.remote_code import VARIABLE as REMOTE_CODE
from openrlhf_math.patches.remote_code import remote_code_trusted

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ENGINE_FILES = (".safetensors", ".bin", ".pt", ".gguf")  # weights that vLLM reads
MEDIA = re.compile(r"(image|video|audio)_token_(id|index)")


def check_tokens(flag: str, model: str, tokenizer: Tokenizer, texts: Iterable[tuple[str, list[int]]]) -> None:
    """Raise UserError if a text has a token that the model does not know, or takes for a picture, a film or a sound.

    texts: where each is from, as in "data.jsonl row 3", and its tokens.
    """
    fault = token_error(flag, model, tokenizer)
    for where, ids in texts:
        if found := fault(ids):
            raise UserError(f"{where}: {found}")


def token_error(flag: str, model: str, tokenizer: Tokenizer) -> Callable[[list[int]], str | None]:
    """As `check_tokens`, for texts one by one: what is wrong with the tokens of one, None if nothing is."""
    config = read_config(flag, model)
    media = {token for name, token in config.to_dict().items() if MEDIA.fullmatch(name) and isinstance(token, int)}
    known = getattr(config.get_text_config(), "vocab_size", math.inf)

    def fault(ids: list[int]) -> str | None:
        if found := media.intersection(ids):
            written = tokenizer.convert_ids_to_tokens(min(found))
            return f"{flag} {model} takes {written} for a picture or a sound; write it otherwise"
        if ids and max(ids) >= known:
            return (
                f"the tokenizer of {flag} {model} gives token {max(ids)}, and the model has an embedding for "
                f"{known} (vocab_size in its config.json); save the model with the tokenizer that it was trained with"
            )
        return None

    return fault


def check_language_model(flag: str, model: str, ask_hub: bool = False) -> None:
    """Raise UserError unless the model's configuration is that of a decoder-only language model.

    ask_hub: whether a hub name is looked up, too; a directory always is.
    """
    if not ask_hub and not os.path.isdir(model):
        return
    config = read_config(flag, model)
    if getattr(config, "auto_map", None) and remote_code_trusted():
        return  # its own code knows
    if not config.architectures:
        raise UserError(
            f"{flag} {model}: its config.json names no architecture; add the class it was saved from, as in "
            '"architectures": ["Qwen2ForCausalLM"]'
        )
    architecture = config.architectures[0]
    if kind := _other_kind(config, architecture):
        raise UserError(f"{flag} {model} is a {architecture}, {kind}; choose a decoder-only language model")
    check_not_quantised(flag, model, config)
    check_window(flag, model, config)


def check_engine(flag: str, model: str, device: str) -> None:
    """Raise UserError for a model that vLLM does not run on a device, or whose weights are not all there.

    model: a directory, or a hub name, whose weights are not looked at.
    """
    check_files(flag, model)
    if device == "cpu":
        check_heads(flag, model, read_config(flag, model))


def check_files(flag: str, model: str) -> None:
    """Raise UserError if the directory of a model has no weights, or a file of them that is cut off.

    Faster than `check_weights`, without Transformers, and right for quantised models too: what an engine needs. A hub
    name is not looked at.
    """
    if not os.path.isdir(model):
        return
    if not any(name.endswith(ENGINE_FILES) for name in os.listdir(model)):
        raise UserError(f"{flag} {model}: there are no weights in it (*.safetensors, *.bin); save the model again")
    for path in sorted(Path(model).glob("*.safetensors")):
        if not _is_whole(path):
            raise UserError(f"{flag} {model}: {path.name} is damaged or cut off; get the file again")
    for index in Path(model).glob("*.safetensors.index.json"):
        for name in sorted(set(_shards(index))):
            if not (Path(model) / name).is_file():
                raise UserError(f"{flag} {model}: {name} is missing, which {index.name} names; get the file again")


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file ends where its header says."""
    found = _header(path)
    if found is None:
        return False
    start, header = found
    try:
        return start + max((entry["data_offsets"][1] for entry in header.values()), default=0) == path.stat().st_size
    except (LookupError, TypeError):
        return False


def _header(path: Path) -> tuple[int, dict] | None:
    """Where the data of a safetensors file begins, and what it says of each tensor; None for a damaged file. The form:
    8 bytes with the header's length, the header as JSON (https://github.com/huggingface/safetensors#format)."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= path.stat().st_size - 8:
            return None
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return None
    return (8 + length, {n: e for n, e in header.items() if n != "__metadata__"}) if isinstance(header, dict) else None


def weight_names(model: str) -> set[str]:
    """Names of the weights in the safetensors files of a directory. Empty where there is none."""
    found = (_header(path) for path in Path(model).glob("*.safetensors"))
    return {name for header in found if header for name in header[1]}


def _shards(index: Path) -> list[str]:
    try:
        return list(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, LookupError, TypeError, AttributeError):
        return []


def check_not_quantised(flag: str, model: str, config: "PretrainedConfig") -> None:
    """Raise UserError for weights that have no gradient. config: Transformers' configuration of a whole model."""
    quantised = getattr(config, "quantization_config", None)
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise UserError(
            f"{flag} {model}: its weights are quantised ({method or 'quantization_config'} in its config.json), and "
            "training needs them as they were before; choose the model in bf16"
        )


def check_positions(flag: str, model: str, what: str, tokens: int, ask_hub: bool = False) -> None:
    """Raise UserError if a sequence has more tokens than the model has positions. what: says where they come from.

    Learned positions end there, and an engine refuses more of any kind. ask_hub: as above.
    """
    if not ask_hub and not os.path.isdir(model):
        return
    most = positions(read_config(flag, model))
    if tokens > most:
        raise UserError(
            f"{what}: {flag} {model} has {most:g} positions (max_position_embeddings in its config.json); ask "
            "for fewer, or raise them there if the model can go beyond"
        )


def checked_family(
    flag: str, model: str, ring: int, shared_prefix: str = "auto", ask_hub: bool = False
) -> Family | None:
    """How a model is trained, by its configuration; None for a hub name that is not looked up.

    ring: `--ds.ring_attn_size`. shared_prefix: `--math.shared_prefix`. Raises UserError if the run asks for a way that
    would be wrong.
    """
    if not ask_hub and not os.path.isdir(model):
        return None
    family = Family.of(read_config(flag, model))
    check_path(flag, model, family, shared_prefix, ring)
    return family


def read_config(flag: str, model: str) -> "PretrainedConfig":
    """The model's configuration, from transformers. Raises UserError if it cannot be read or is of an unknown type."""
    from transformers import AutoConfig, __version__

    if os.path.isdir(model):
        _check_json(flag, model)
    try:
        return AutoConfig.from_pretrained(model, trust_remote_code=remote_code_trusted())
    except Exception as error:  # the library's own errors have no common class
        words = " ".join(str(error).split())
        if "trust_remote_code" in words:
            raise wants_code(flag, model) from None
        if missing := why_missing(model, error):
            raise UserError(f"{flag} {model}: {missing}") from None
        if "does not recognize this architecture" in words:
            words = f"transformers {__version__} does not know its model_type; choose another model, or a newer version"
        raise UserError(f"{flag} {model}: its config.json cannot be used ({words[:300]})") from None


def wants_code(flag: str, model: str) -> UserError:
    return UserError(
        f"{flag} {model}: it wants to run its own Python code; read it, and set {REMOTE_CODE}=1 if you trust it"
    )


def _check_json(flag: str, model: str) -> None:
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{flag} {model}: its config.json is not JSON ({error}); save the model again") from None
    if not isinstance(config, dict):
        raise UserError(f"{flag} {model}: its config.json is not a JSON object; save the model again")
    if not isinstance(config.get("model_type"), str) and "auto_map" not in config:
        raise UserError(f"{flag} {model}: its config.json has no model_type; save the model again with transformers")


def _other_kind(config: "PretrainedConfig", architecture: str) -> str | None:
    """What a model is that generates no text from left to right; None if it is a language model."""
    from transformers.models.auto import modeling_auto as auto

    if config.is_encoder_decoder:
        return "an encoder with a decoder"
    causal = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "an encoder"  # BERT and its kin are in both tables
    known = {*causal.values(), *auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values()}
    if architecture in known or architecture.endswith("ForCausalLM"):
        return None
    return "which writes no text"


# Elements of heads that vLLM computes on a CPU, see vllm/v1/attention/backends/cpu_attn.py. With others its process
# dies without a word.
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)


def check_heads(flag: str, model: str, config: ModelConfig) -> None:
    """Raise UserError for a model whose heads vLLM does not compute on a CPU. config: Transformers', of a whole model.

    Latent attention has its own kernel and is left out.
    """
    text = config.get_text_config()
    if getattr(text, "kv_lora_rank", None) or not getattr(text, "num_attention_heads", None):
        return
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    if size not in CPU_HEAD_SIZES:
        raise UserError(
            f"{flag} {model}: its attention heads have {size} elements, and vLLM on a CPU takes only "
            f"{', '.join(map(str, CPU_HEAD_SIZES))}; choose another model, or run it on a GPU"
        )
