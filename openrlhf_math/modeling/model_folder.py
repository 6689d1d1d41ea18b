"""A model's folder or hub name, before its weights are read: what is there, its tokenizer, its size."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.data.hub import give_up_soon_without_network
from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.errors import UserError
from openrlhf_math.modeling.model_kind import wants_code
from openrlhf_math.patches.remote_code import remote_code_trusted

if TYPE_CHECKING:
    from transformers import AutoConfig, AutoTokenizer

NO_TEMPLATE = "add --no-data.apply_chat_template, and --data.input_template if the model wants one"

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def check_model(flag: str, model: str) -> None:
    """Raise UserError unless `model` is a directory with a model and its tokenizer, or a hub name.

    For a hub name, the hub is tried first: where it cannot be reached, what is on disk is used.
    """
    if os.path.isdir(model):
        if (Path(model) / "adapter_config.json").is_file():
            raise UserError(
                f"{flag} {model}: this is an adapter, not a model; give the merged model (of a run of ours, the folder "
                "that holds it), or merge it into its base with PEFT's merge_and_unload"
            )
        for name, what in (("config.json", "model"), ("tokenizer_config.json", "tokenizer")):
            if not (Path(model) / name).is_file():
                raise UserError(
                    f"{flag} {model}: there is no {what} in it ({name} is missing); save one beside the other"
                )
    elif not HUB_NAME.fullmatch(model) or model.startswith("."):
        raise UserError(
            f"{flag} {model}: there is no such directory, and it is not a hub name such as Qwen/Qwen2.5-1.5B"
        )
    else:
        give_up_soon_without_network()


def load_tokenizer(flag: str, model: str, needs_template: bool, fix: str) -> Tokenizer:
    """The model's tokenizer. Raises UserError if it cannot be read, if it or the model wants to run code of its own, or
    if there is no chat template where one is needed."""
    from transformers import AutoConfig, AutoTokenizer

    if not remote_code_trusted() and any(_brings_code(kind, model) for kind in (AutoConfig, AutoTokenizer)):
        raise wants_code(flag, model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=remote_code_trusted())
        reads = bool(tokenizer("1 + 1 = 2", add_special_tokens=False)["input_ids"])
    except Exception as error:  # of transformers and tokenizers, for whatever a damaged file holds
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{flag} {model}: its tokenizer cannot be read ({first_line})") from None
    if not reads:
        raise UserError(
            f"{flag} {model}: its tokenizer makes no tokens of a text, as without a vocabulary; save the model's "
            "tokenizer.json beside it"
        )
    if needs_template and not tokenizer.chat_template:
        raise UserError(f"{flag} {model}: its tokenizer has no chat template; {fix}")
    return tokenizer


def _brings_code(kind: "type[AutoConfig | AutoTokenizer]", model: str) -> bool:
    """Whether transformers' class of this kind asks for trust. What else is wrong is told where it is read."""
    try:
        kind.from_pretrained(model, trust_remote_code=False)
    except Exception as error:  # as above
        return "trust_remote_code" in str(error)
    return False


def count_parameters(model: str) -> int:
    """Parameters of a model, from its weight files if it is local (2 bytes each), else from its name; 0 if unknown."""
    if os.path.isdir(model):
        size = sum(file.stat().st_size for file in Path(model).glob("*.safetensors"))
        return size // 2
    named = re.search(r"(\d+(?:\.\d+)?)B\b", model, re.IGNORECASE)
    return int(float(named[1]) * 1e9) if named else 0
