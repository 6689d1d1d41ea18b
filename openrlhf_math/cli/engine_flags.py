"""Flags that go on to vLLM's engine and to the model's chat template as they are."""

import argparse
import difflib

from openrlhf_math.cli.endpoint_flags import json_object
from openrlhf_math.errors import UserError

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# Engine arguments that a flag of ours sets, or that the engine could not do its work with.
OURS = {
    "model": "--model", "tokenizer": "--model", "tensor_parallel_size": "--tensor-parallel",
    "max_model_len": "--max-context", "trust_remote_code": "OPENRLHF_MATH_TRUST_REMOTE_CODE", "runner": "",
    "convert": "", "skip_tokenizer_init": "", "worker_extension_cls": "", "enable_sleep_mode": "", "load_format": "",
}  # fmt: skip


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("passed on").add_argument
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
        help="how much the model is to think, where its chat template knows it (left to that)",
    )  # fmt: skip


def engine_args(args: argparse.Namespace) -> dict[str, object]:
    """Those of --engine-args. Raises UserError for a name that vLLM does not have, or that is not for this flag."""
    given = args.engine_args
    if not given:
        return {}
    if args.base_url:
        raise UserError("--engine-args: the model of --base-url has its own engine; leave it out")
    for name in given.keys() & OURS.keys():
        instead = f"; use {OURS[name]}" if OURS[name] else ""
        raise UserError(f"--engine-args: {name} is set by this command{instead}")
    from dataclasses import fields

    from vllm import EngineArgs

    known = [field.name for field in fields(EngineArgs)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise UserError(f"--engine-args: vLLM's engine has no {name}{hint}")
    return given


def drawn(args: argparse.Namespace) -> dict[str, object]:
    """Fields of `roles.Sampling`."""
    return {"chat_template_kwargs": args.chat_template_kwargs, "reasoning_effort": args.reasoning_effort}


def check_template_variables(args: argparse.Namespace, tokenizer) -> None:
    """Raises UserError for a variable that the model's chat template does not read: it would do nothing."""
    known = template_variables(tokenizer)
    for name in args.chat_template_kwargs:
        if name not in known:
            raise UserError(
                f"--chat-template-kwargs: the chat template of {args.model} reads no {name}, only {', '.join(known)}"
            )
    if args.reasoning_effort and not {"reasoning_effort", "enable_thinking"} & set(known):
        raise UserError(
            f"--reasoning-effort {args.reasoning_effort}: the chat template of {args.model} reads neither "
            "reasoning_effort nor enable_thinking; leave it out"
        )


def template_variables(tokenizer) -> list[str]:
    """What a chat template reads besides the messages, sorted."""
    from jinja2 import meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    found = meta.find_undeclared_variables(environment.parse(_without_generation(tokenizer.get_chat_template())))
    ours = ("messages", "add_generation_prompt", "tools", "documents", "raise_exception", "strftime_now")
    return sorted(name for name in found if name not in ours)


def _without_generation(template: str) -> str:
    """transformers' own tag, which marks the assistant's turns, is no tag of jinja's."""
    import re

    return re.sub(r"\{%-?\s{0,9}(?:end)?generation\s{0,9}-?%\}", "", template)
