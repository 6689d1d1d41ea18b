"""How an OpenAI-compatible endpoint is asked, and with which key."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from openrlhf_math.errors import UserError


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """How an OpenAI-compatible endpoint is asked. Raises ValueError for values that cannot work.

    base_url               up to and with /v1
    api_key                never shown, not even by repr; "" sends none
    api_key_env            the environment variable it came from
    concurrency            requests under way at once
    requests_per_minute    None: as fast as replies come
    tokens_per_minute      prompt and completion together; None: no limit
    request_timeout        seconds for one request, from the first byte sent to the last received
    tries                  requests for one attempt before it is set aside
    extra_body             merged into every request
    """

    base_url: str
    api_key: str = field(repr=False)
    api_key_env: str
    concurrency: int
    requests_per_minute: float | None
    tokens_per_minute: float | None
    request_timeout: float
    tries: int
    extra_body: dict

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"--base-url {self.base_url}: give an address such as http://127.0.0.1:8000/v1")
        if url.username or url.password or url.query:
            raise ValueError(
                "--base-url holds a user, a password or a query, and would be written into the data card; "
                f"give the bare address, and the key in ${self.api_key_env}"
            )
        if not (self.api_key.isascii() and self.api_key.isprintable() and " " not in self.api_key):
            raise ValueError(
                f"--api-key-env {self.api_key_env}: the key in that variable holds blanks or signs that "
                "no HTTP header may hold; set it again"
            )
        if self.concurrency < 1:
            raise ValueError(f"--concurrency {self.concurrency}: give 1 or more")
        if self.tries < 1:
            raise ValueError(f"--tries {self.tries}: give 1 or more")
        for flag in ("requests_per_minute", "tokens_per_minute", "request_timeout"):
            value = getattr(self, flag)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"--{flag.replace('_', '-')} {value}: give more than 0")
        if "stream" in self.extra_body:
            raise ValueError("--extra-body: replies are read whole, leave `stream` out")


# The client's messages name the flags of `distill`: these are a judge's, and first what no judge has.
JUDGE_FLAGS = {", at --max-tokens and --no-seed, and at --extra-body": " and at --extra-body", " or --tries": ""}
JUDGE_FLAGS |= {
    f"--{flag}": f"--judge-{flag}"
    for flag in (
        "base-url", "api-key-env", "model", "concurrency", "requests-per-minute", "request-timeout", "extra-body"
    )
}  # fmt: skip


JUDGE_TRIES = 5  # requests for one question before it has no answer


def judge_endpoint(
    base_url: str,
    concurrency: int,
    request_timeout: float,
    api_key_env: str | None = None,
    requests_per_minute: float | None = None,
    extra_body: dict | None = None,
) -> EndpointSettings:
    """Of a model that judges. Raises UserError, with the judge's flags, for values that cannot work."""
    try:
        key, variable = read_key(api_key_env)
        return EndpointSettings(
            base_url=base_url, api_key=key, api_key_env=variable, concurrency=concurrency,
            requests_per_minute=requests_per_minute, tokens_per_minute=None, request_timeout=request_timeout,
            tries=JUDGE_TRIES, extra_body=extra_body or {},
        )  # fmt: skip
    except ValueError as error:
        raise UserError(renamed(str(error), JUDGE_FLAGS)) from None


def renamed(message: str, flags: Mapping[str, str]) -> str:
    """A message with a command's own names for the flags in it, or for a part of a sentence on them."""
    for theirs, ours in flags.items():
        message = message.replace(theirs, ours)
    return message


def read_key(variable: str | None) -> tuple[str, str]:
    """The API key and the variable it is from. Raises ValueError if the variable the user named is not set."""
    if variable is None:
        return os.environ.get("OPENAI_API_KEY", "").strip(), "OPENAI_API_KEY"
    if not os.environ.get(variable, "").strip():
        raise ValueError(f"--api-key-env {variable}: that environment variable is not set; export the key in it")
    return os.environ[variable].strip(), variable
