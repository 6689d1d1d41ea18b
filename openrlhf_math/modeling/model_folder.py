"""A model's folder or hub name, before its weights are read: what is there, its tokenizer, its size."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.data.chat_template import prepared
from openrlhf_math.data.places import give_up_soon_without_network, why_missing
from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.errors import UserError, first_line
from openrlhf_math.modeling.model_kind import check_engine, check_files, check_positions, wants_code
from openrlhf_math.patches.remote_code import remote_code_trusted

if TYPE_CHECKING:
    from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

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
                    f"{flag} {model}: there is no {what} in it ({name} is missing); save both in one directory"
                )
    elif not HUB_NAME.fullmatch(model) or model.startswith("."):
        raise UserError(
            f"{flag} {model}: there is no such directory, and it is not a hub name such as Qwen/Qwen2.5-1.5B"
        )
    else:
        give_up_soon_without_network()


def check_chat_model(flag: str, model: str, device: str, context: int | None) -> None:
    """As `check_model`; and what the start of an engine would find out after minutes, if the model is a directory.

    context: `--max-context`.
    """
    check_model(flag, model)
    if os.path.isdir(model):
        load_tokenizer(flag, model, True, "choose a chat model")
        check_engine(flag, model, device)
        if context:
            check_positions(flag, model, f"--max-context {context}", context)


def load_tokenizer(flag: str, model: str, needs_template: bool, fix: str) -> Tokenizer:
    """The model's tokenizer, see `prepared`. Raises UserError if it cannot be read, if it or the model wants to
    run its own code, or if there is no chat template where one is needed."""
    from transformers import AutoConfig, AutoTokenizer

    if not remote_code_trusted() and any(_brings_code(kind, model) for kind in (AutoConfig, AutoTokenizer)):
        raise wants_code(flag, model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=remote_code_trusted())
        reads = bool(tokenizer("1 + 1 = 2", add_special_tokens=False)["input_ids"])
    except Exception as error:  # of transformers and tokenizers, for whatever a damaged file holds
        if missing := why_missing(model, error):
            raise UserError(f"{flag} {model}: {missing}") from None
        raise UserError(f"{flag} {model}: its tokenizer cannot be read ({first_line(error)}); save it again") from None
    if not reads:
        raise UserError(
            f"{flag} {model}: its tokenizer makes no tokens of a text, as without a vocabulary; save the model's "
            "tokenizer.json with it"
        )
    if needs_template and not tokenizer.chat_template:
        raise UserError(f"{flag} {model}: its tokenizer has no chat template; {fix}")
    if needs_template and isinstance(tokenizer.chat_template, dict) and "default" not in tokenizer.chat_template:
        names = ", ".join(sorted(tokenizer.chat_template))
        raise UserError(f"{flag} {model}: of its chat templates ({names}) none is called default; {fix}, or save the "
                        "one to use as chat_template.jinja")  # fmt: skip
    if needs_template:
        _check_syntax(flag, model, tokenizer)
    return prepared(tokenizer)


def recommended_sampling(flag: str, model: str) -> dict[str, float]:
    """What the model's generation_config.json says of sampling, by vLLM's names, if it asks for sampling, as vLLM's
    server applies it; `max_tokens` in any case. Raises UserError, which names `flag`, if it cannot be read."""
    from transformers import GenerationConfig

    try:
        config = GenerationConfig.from_pretrained(model).to_diff_dict()
    except (OSError, ValueError, TypeError) as error:
        folder = Path(model)  # of a hub model there may be none, or no network for it
        if isinstance(error, OSError) and not (folder / "generation_config.json").exists():
            return {}
        raise UserError(f"{flag} {model}: generation_config.json cannot be read ({error!s:.200}); fix it") from None
    found = {"max_tokens": config.get("max_new_tokens")}
    if config.get("do_sample"):
        names = ("top_p", "top_k", "min_p", "repetition_penalty")
        found |= {"temperature": config.get("temperature", 1.0), **{name: config.get(name) for name in names}}
    found = {name: value for name, value in found.items() if value is not None}
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{flag} {model}: generation_config.json has {name} {value!r:.60}; it must be a number")
    return found


def _check_syntax(flag: str, model: str, tokenizer: Tokenizer) -> None:
    """What else a template refuses depends on the messages, and is refused where they are rendered."""
    from jinja2 import TemplateSyntaxError

    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "1 + 1 = ?"}], tokenize=False)
    except TemplateSyntaxError as error:
        raise UserError(f"{flag} {model}: its chat template is not Jinja ({error.message}); correct it") from None
    except Exception:  # of jinja2 and of the template itself
        return


def _brings_code(kind: "type[AutoConfig | AutoTokenizer]", model: str) -> bool:
    """Whether transformers' class of this kind asks for trust. What else is wrong is refused where it is read."""
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
    check_files(flag, model)
    try:
        report = _loading_report(model, architecture)
    except ImportError as error:
        raise UserError(f"{flag} {model}: it needs a package that is not installed ({first_line(error)})") from None
    except Exception as error:  # of Transformers, safetensors, or the model's own code: they have no common class
        words = f"{type(error).__name__}: {first_line(error)}"
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


def _named(things: list[str]) -> str:
    rest = len(things) - NAMED
    return ", ".join(things[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
