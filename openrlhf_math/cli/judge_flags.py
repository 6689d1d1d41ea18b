"""Flags of a model behind an endpoint that judges: answers in `eval`, pairs of problems in `curate`."""

import argparse
from typing import TYPE_CHECKING, Any

from openrlhf_math.errors import UserError
from openrlhf_math.training.flag_values import json_object

if TYPE_CHECKING:
    from openrlhf_math.rerank.answer_judge import JudgeSettings

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
