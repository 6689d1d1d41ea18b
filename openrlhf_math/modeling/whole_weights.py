"""Whether the weight files in a directory hold the model that its config.json describes, seen without reading weights.

Transformers draws a weight that is missing at random, with a warning at most: a training would go through it, and a
model of its own would come out.
"""

import os
from typing import TYPE_CHECKING

from openrlhf_math.errors import UserError
from openrlhf_math.patches.remote_code import remote_code_trusted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHT_FILES = (".safetensors", ".bin", ".index.json")
NAMED = 2  # weights that a sentence names


def check_weights(
    flag: str,
    model: str,
    architecture: type | None = None,
    new: tuple[str, ...] = (),
    may_be_missing: bool = False,
) -> None:
    """Raise UserError unless the files of a model hold all its weights, each in the shape that config.json gives it.

    The model is made without memory, and only the headers of its files are read. model: a directory; a hub name is not
    looked up. architecture: the model's class in Transformers, found out where it is not given. new: beginnings of the
    names of weights that may be missing. may_be_missing: whether a directory without any weight file is accepted.
    """
    if not os.path.isdir(model) or (may_be_missing and not _has_weights(model)):
        return
    try:
        report = _loading_report(model, architecture)
    except ImportError as error:
        raise UserError(f"{flag} {model}: it needs a package that is not installed ({_brief(error)})") from None
    except Exception as error:  # of Transformers, safetensors, or the model's own code: they have no common class
        words = f"{type(error).__name__}: {_brief(error)}"
        raise UserError(f"{flag} {model}: the model cannot be loaded ({words}); save it again") from None
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(new))
    if missing:
        raise UserError(
            f"{flag} {model}: its files lack {_named(missing)}, which would be drawn at random; save the model again"
        )
    wrong = sorted(f"{name} of {list(found)}, not {list(wanted)}" for name, found, wanted in report["mismatched_keys"])
    if wrong:
        raise UserError(f"{flag} {model}: its files and its config.json differ: {_named(wrong)}; save the model again")


def _has_weights(model: str) -> bool:
    return any(name.endswith(WEIGHT_FILES) for name in os.listdir(model))


def _loading_report(model: str, architecture: "type[PreTrainedModel] | None") -> dict:
    """Names of missing weights, and names with both shapes of those of another shape."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.utils import logging

    trust, verbosity = remote_code_trusted(), logging.get_verbosity()
    if architecture is None:
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust)
        architecture = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    had_bar = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return architecture.from_pretrained(
            model, device_map="meta", dtype="auto", trust_remote_code=trust, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )[1]  # fmt: skip
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200].rstrip(".")


def _named(things: list[str]) -> str:
    rest = len(things) - NAMED
    return ", ".join(things[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
