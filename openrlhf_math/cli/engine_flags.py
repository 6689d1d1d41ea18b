"""Flags that are passed to vLLM's engine and to the model's chat template."""

import argparse
from collections.abc import Callable
from typing import Any

from openrlhf_math.colocation.layout import check_engine_args
from openrlhf_math.data.chat_date import FLAG, add_date_flag
from openrlhf_math.data.prompts import Tokenizer, check_variables, template_variables
from openrlhf_math.errors import UserError
from openrlhf_math.training.flag_values import MOST_TEMPERATURE, json_object

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# Engine arguments that a flag of ours sets, or that the engine could not do its work with.
OURS = {
    "model": "--model", "tokenizer": "--model", "tensor_parallel_size": "--tensor-parallel",
    "max_model_len": "--max-context", "trust_remote_code": "OPENRLHF_MATH_TRUST_REMOTE_CODE", "runner": "",
    "convert": "", "skip_tokenizer_init": "", "worker_extension_cls": "", "enable_sleep_mode": "", "load_format": "",
}  # fmt: skip


def add_engine_count(add: Callable[..., argparse.Action]) -> None:
    """add: of the group of a command whose engine can also run in its own process."""
    add("--engines", type=int, default=0, metavar="N", help="as Ray actors; 0: one in this process (%(default)s)")


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("passed to the engine")
    add = group.add_argument
    add(
        "--engine-args", type=json_object, default={}, metavar="JSON",
        help="arguments of vLLM's engine of --model, by vLLM's names, such as '{\"kv_cache_dtype\": \"fp8\"}'",
    )  # fmt: skip
    add(
        "--chat-template-kwargs", type=json_object, default={}, metavar="JSON",
        help="variables of the model's chat template, such as '{\"enable_thinking\": false}'",
    )  # fmt: skip
    add(
        "--reasoning-effort", choices=EFFORTS,
        help="how much the model thinks, if its chat template supports it (the template's default)",
    )  # fmt: skip
    add_date_flag(group)


def engine_args(args: argparse.Namespace) -> dict[str, object]:
    """Those of --engine-args. Raises UserError for a name that vLLM does not have, or that is not for this flag.

    args: also of `distill`, whose --teacher names the teacher.
    """
    given = args.engine_args
    if not given:
        return {}
    if args.base_url:
        raise UserError("--engine-args: the model of --base-url has its own engine; leave it out")
    if getattr(args, "teacher", "engine") == "recorded":
        raise UserError("--engine-args: --teacher recorded asks no engine; leave it out")
    check_engine_args("--engine-args", given, OURS)
    return given


def check_date_used(args: argparse.Namespace) -> None:
    """Raise UserError for a date where no prompt is written here."""
    if args.chat_date and args.base_url:
        raise UserError(f"{FLAG} {args.chat_date}: the server of --base-url writes the prompts; leave it out")


def check_temperature(temperature: float | None, flag: str = "--temperature") -> None:
    """Raises UserError for one that the engine would refuse, after it has been loaded."""
    if temperature is not None and temperature > MOST_TEMPERATURE:
        raise UserError(f"{flag} {temperature:g}: vLLM takes at most {MOST_TEMPERATURE}; lower it")


def drawn(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of `roles.Sampling`."""
    return {"chat_template_kwargs": args.chat_template_kwargs, "reasoning_effort": args.reasoning_effort}


def check_template_variables(args: argparse.Namespace, tokenizer: Tokenizer) -> None:
    """Raises UserError for a variable that the model's chat template does not read: it would do nothing."""
    known = template_variables(tokenizer)
    check_variables("--chat-template-kwargs", args.model, args.chat_template_kwargs, tokenizer)
    if args.reasoning_effort and not {"reasoning_effort", "enable_thinking"} & set(known):
        raise UserError(
            f"--reasoning-effort {args.reasoning_effort}: the chat template of {args.model} reads neither "
            "reasoning_effort nor enable_thinking; leave it out"
        )
