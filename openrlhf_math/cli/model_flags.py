"""Flags of models that several commands share: vLLM's engine, an endpoint, a judge, the tool.

A judge decides about answers in `eval` and `grpo`, and about pairs of problems in `curate`.
"""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from openrlhf_math.colocation.layout import check_engine_args
from openrlhf_math.data.chat_date import FLAG, add_date_flag
from openrlhf_math.data.prompts import Tokenizer, check_variables, template_variables
from openrlhf_math.errors import UserError, in_flags
from openrlhf_math.tools.code_blocks import FORMS
from openrlhf_math.tools.isolation import WANTED
from openrlhf_math.tools.settings import ToolSettings
from openrlhf_math.tools.turns import BlockTurns, TemplateTurns
from openrlhf_math.training.flag_checks import MOST_TEMPERATURE, json_object

if TYPE_CHECKING:
    from openrlhf_math.endpoint.settings import EndpointSettings
    from openrlhf_math.rerank.answer_judge import JudgeSettings
    from openrlhf_math.rerank.endpoint_sampler import EndpointModel
    from openrlhf_math.rerank.verdicts import AskedScorerSettings

CONCURRENCY = 32  # requests under way at once
NO_SEED = "--extra-body '{\"seed\": null}'"


def add_endpoint_flags(parser: argparse.ArgumentParser, key_flag: str = "--api-key-env") -> None:
    """key_flag: the name of the flag of the endpoint's key."""
    add = parser.add_argument_group("model behind an endpoint").add_argument
    add("--base-url", metavar="URL", help="OpenAI-compatible, up to and with /v1: --model is asked there, not loaded")
    add(
        key_flag, dest="endpoint_key_env", metavar="VARIABLE",
        help="environment variable that holds the endpoint's key (OPENAI_API_KEY)",
    )  # fmt: skip
    add("--concurrency", type=int, default=CONCURRENCY, metavar="N", help="requests under way at once (%(default)s)")
    add_request_flags(add)


def add_request_flags(add: Callable[..., argparse.Action]) -> None:
    """add: of the group of the endpoint's flags."""
    add("--requests-per-minute", type=float, metavar="N", help="upper limit (no limit)")
    add("--tokens-per-minute", type=float, metavar="N", help="of prompts and completions (no limit)")
    add("--request-timeout", type=float, default=1800.0, metavar="SECONDS", help="for a whole reply (%(default)g)")
    add("--tries", type=int, default=6, metavar="N", help="maximum number of requests for one completion (%(default)s)")
    add(
        "--extra-body", type=json_object, default={}, metavar="JSON",
        help="merged into every request; null leaves a field out",
    )  # fmt: skip


def add_asked_scorer_flags(add: Callable) -> None:
    """add: `add_argument` of the group that the scorer's flags are in."""
    add(
        "--scorer-base-url", metavar="URL",
        help="endpoint of --scorer-model, with --scorer verdict or graded (that of --base-url)",
    )  # fmt: skip
    add("--scorer-api-key-env", metavar="VARIABLE", help="environment variable that holds its key (that of --base-url)")
    add("--scorer-votes", type=int, default=4, metavar="N", help="judgements of an attempt, averaged (%(default)s)")


def endpoint_model(args: argparse.Namespace, key_flag: str = "--api-key-env") -> "EndpointModel | None":
    """The `EndpointModel` of --base-url, None without one. Raises UserError for a flag that cannot work."""
    from openrlhf_math.rerank.endpoint_sampler import EndpointModel

    if not args.base_url:
        return None
    endpoint = asked_endpoint(args, args.base_url, args.endpoint_key_env, api_key_env=key_flag, no_seed=NO_SEED)
    return EndpointModel(args.model, endpoint, getattr(args, "max_tokens", None) or 2048)


def asked_scorer(args: argparse.Namespace) -> "AskedScorerSettings":
    """The `AskedScorerSettings` of a model behind an endpoint. Raises UserError for a flag that cannot work."""
    from openrlhf_math.rerank.endpoint_sampler import EndpointModel
    from openrlhf_math.rerank.roles import Sampling
    from openrlhf_math.rerank.verdicts import AskedScorerSettings

    url = args.scorer_base_url or args.base_url
    if not url:
        raise UserError(f"--scorer {args.scorer} asks a model at an endpoint; give its address as --scorer-base-url")
    key = args.scorer_api_key_env or (None if args.scorer_base_url else args.endpoint_key_env)
    endpoint = asked_endpoint(
        args, url, key, base_url="--scorer-base-url", api_key_env="--scorer-api-key-env", model="--scorer-model",
        max_tokens="", no_seed=NO_SEED,
    )  # fmt: skip
    try:
        return AskedScorerSettings(
            args.scorer,
            EndpointModel(args.scorer_model, endpoint, 4096),
            args.scorer_votes,
            Sampling(max_tokens=4096, seed=args.seed),
        )
    except ValueError as error:
        raise UserError(str(error)) from None


def asked_endpoint(args: argparse.Namespace, url: str, variable: str | None, **flags: str) -> "EndpointSettings":
    """flags: fields of `EndpointFlags`, where they have other names than usual."""
    from openrlhf_math.endpoint.settings import EndpointFlags, endpoint_settings

    return endpoint_settings(
        url,
        variable,
        concurrency=CONCURRENCY if args.concurrency is None else args.concurrency,
        request_timeout=args.request_timeout,
        tries=args.tries,
        requests_per_minute=args.requests_per_minute,
        tokens_per_minute=args.tokens_per_minute,
        extra_body=args.extra_body,
        flags=EndpointFlags(**flags),
    )


JUDGE_CONCURRENCY, JUDGE_TIMEOUT = 16, 600.0
NAMES = ("base_url", "model", "api_key_env", "concurrency", "requests_per_minute", "request_timeout", "extra_body")


def add_judge_flags(
    parser: argparse.ArgumentParser, what: str, concurrency: int = JUDGE_CONCURRENCY, timeout: float = JUDGE_TIMEOUT
) -> None:
    """what: the judge decides. concurrency: requests at once; timeout: seconds for one; both where no flag says it."""
    add = parser.add_argument_group("judge", f"a model that decides {what}").add_argument
    add("--judge-base-url", metavar="URL", help="an OpenAI-compatible endpoint, up to and with /v1 (no judge)")
    add("--judge-model", metavar="NAME", help="as the endpoint calls it")
    add("--judge-api-key-env", metavar="VARIABLE", help="environment variable that holds the key (OPENAI_API_KEY)")
    add("--judge-concurrency", type=int, metavar="N", help=f"requests at once ({concurrency})")
    add("--judge-requests-per-minute", type=float, metavar="N", help="upper limit (no limit)")
    add("--judge-request-timeout", type=float, metavar="SECONDS", help=f"for a whole reply ({timeout:g})")
    add(
        "--judge-extra-body", type=json_object, metavar="JSON", help="merged into each request; null leaves a field out"
    )


def given_judge(args: argparse.Namespace) -> dict[str, Any] | None:
    """The judge's flags that are given, by NAMES; None for no judge. Raises UserError if one of them is missing."""
    given = {name: value for name in NAMES if (value := getattr(args, f"judge_{name}")) is not None}
    if not args.judge_base_url:
        for name in given.keys() - {"base_url"}:
            raise UserError(f"--judge-{name.replace('_', '-')} needs --judge-base-url, the address of the judge")
        return None
    if not args.judge_model:
        raise UserError("--judge-base-url needs --judge-model, the judge as the endpoint calls it")
    return given


def judge_settings(args: argparse.Namespace) -> "JudgeSettings | None":
    """The `JudgeSettings`, None for no judge. Raises UserError for values that cannot work."""
    given = given_judge(args)
    if given is None:
        return None
    from openrlhf_math.endpoint.settings import judge_endpoint
    from openrlhf_math.rerank.answer_judge import JudgeSettings

    model = given.pop("model")
    defaults = {"concurrency": JUDGE_CONCURRENCY, "request_timeout": JUDGE_TIMEOUT}
    return JudgeSettings(model, judge_endpoint(**defaults | given))


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


# By flag the field of `ToolSettings`.
TOOL_FIELDS = {
    "tool_form": "form",
    "tool_calls": "calls",
    "tool_seconds": "seconds",
    "tool_memory": "memory_mb",
    "tool_isolation": "isolation",
}


def add_tool_flags(parser: argparse.ArgumentParser) -> None:
    default = ToolSettings()
    add = parser.add_argument_group("tool").add_argument
    add(
        "--tool", choices=("python",),
        help="let the model run Python: its code runs in a sandbox, and it is shown the output; see docs/tool.md",
    )  # fmt: skip
    add(
        "--tool-form", choices=FORMS,
        help=f"form of a call: a block ```python, or a <tool_call> of the chat template ({default.form})",
    )  # fmt: skip
    add("--tool-calls", type=int, metavar="N", help=f"maximum number of calls of an attempt ({default.calls})")
    add(
        "--tool-seconds", type=float, metavar="S",
        help=f"CPU time of a call; by the clock four times as much ({default.seconds:g})",
    )  # fmt: skip
    add("--tool-memory", type=int, metavar="MIB", help=f"memory of an attempt's programs ({default.memory_mb})")
    add(
        "--tool-isolation", choices=WANTED,
        help=f"isolation of its programs; none: they have your rights ({default.isolation})",
    )  # fmt: skip


def tool_settings(args: argparse.Namespace) -> ToolSettings | None:
    """None without --tool. Raises UserError for values that cannot work."""
    given = {flag: getattr(args, flag) for flag in TOOL_FIELDS if getattr(args, flag) is not None}
    if args.tool is None:
        if given:
            flag, value = next(iter(given.items()))
            raise UserError(f"--{flag.replace('_', '-')} {value}: add --tool python, or leave it out")
        return None
    with in_flags(**{field: f"--{flag.replace('_', '-')}" for flag, field in TOOL_FIELDS.items()}):
        return ToolSettings(**{TOOL_FIELDS[flag]: value for flag, value in given.items()})


def with_tool(instruction: str, tool: ToolSettings | None) -> str:
    """The instruction of a problem, and what the model must know of the tool."""
    if tool is None:
        return instruction
    more = (TemplateTurns if tool.form == "template" else BlockTurns).instruction
    return "\n".join(text for text in (instruction, more) if text)
