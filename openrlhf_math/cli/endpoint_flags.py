"""Flags of a model behind an OpenAI-compatible endpoint, and of one that judges there.

A judge decides about answers in `eval` and `grpo`, and about pairs of problems in `curate`.
"""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from openrlhf_math.errors import UserError
from openrlhf_math.training.flag_values import json_object

if TYPE_CHECKING:
    from openrlhf_math.endpoint.settings import EndpointSettings
    from openrlhf_math.rerank.answer_judge import JudgeSettings
    from openrlhf_math.rerank.endpoint_sampler import EndpointModel
    from openrlhf_math.rerank.verdicts import AskedScorerSettings

NO_SEED = "--extra-body '{\"seed\": null}'"


def add_endpoint_flags(parser: argparse.ArgumentParser, key_flag: str = "--api-key-env") -> None:
    """key_flag: the name of the flag of the endpoint's key."""
    add = parser.add_argument_group("model behind an endpoint").add_argument
    add("--base-url", metavar="URL", help="OpenAI-compatible, up to and with /v1: --model is asked there, not loaded")
    add(
        key_flag, dest="endpoint_key_env", metavar="VARIABLE",
        help="environment variable that holds the endpoint's key (OPENAI_API_KEY)",
    )  # fmt: skip
    add("--concurrency", type=int, default=32, metavar="N", help="requests under way at once (%(default)s)")
    add("--requests-per-minute", type=float, metavar="N", help="upper limit (no limit)")
    add("--tokens-per-minute", type=float, metavar="N", help="of prompts and completions (no limit)")
    add("--request-timeout", type=float, default=1800.0, metavar="SECONDS", help="for a whole reply (%(default)g)")
    add("--tries", type=int, default=6, metavar="N", help="at most so many requests for one completion (%(default)s)")
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
    endpoint = _endpoint(args, args.base_url, args.endpoint_key_env, api_key_env=key_flag)
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
    endpoint = _endpoint(
        args, url, key, base_url="--scorer-base-url", api_key_env="--scorer-api-key-env", model="--scorer-model",
        max_tokens="",
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


def _endpoint(args: argparse.Namespace, url: str, variable: str | None, **flags: str) -> "EndpointSettings":
    """flags: fields of `EndpointFlags`, where they have other names than usual."""
    from openrlhf_math.endpoint.settings import EndpointFlags, endpoint_settings

    return endpoint_settings(
        url,
        variable,
        concurrency=args.concurrency,
        request_timeout=args.request_timeout,
        tries=args.tries,
        requests_per_minute=args.requests_per_minute,
        tokens_per_minute=args.tokens_per_minute,
        extra_body=args.extra_body,
        flags=EndpointFlags(**{"no_seed": NO_SEED} | flags),
    )


CONCURRENCY, TIMEOUT = 16, 600.0
NAMES = ("base_url", "model", "api_key_env", "concurrency", "requests_per_minute", "request_timeout", "extra_body")


def add_judge_flags(
    parser: argparse.ArgumentParser, what: str, concurrency: int = CONCURRENCY, timeout: float = TIMEOUT
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
    defaults = {"concurrency": CONCURRENCY, "request_timeout": TIMEOUT}
    return JudgeSettings(model, judge_endpoint(**defaults | given))
