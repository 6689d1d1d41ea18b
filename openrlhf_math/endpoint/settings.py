"""Settings of requests to an OpenAI-compatible endpoint, and its key."""

import json
import math
import os
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

from openrlhf_math.errors import BadValue, in_flags


@dataclass(frozen=True, slots=True)
class EndpointFlags:
    """The names that a command gives to an endpoint's flags, for errors; "" for one that it does not have.

    no_seed: what leaves the seed out of requests. kind: what must be at base_url.
    """

    base_url: str = "--base-url"
    api_key_env: str = "--api-key-env"
    model: str = "--model"
    concurrency: str = "--concurrency"
    requests_per_minute: str = "--requests-per-minute"
    tokens_per_minute: str = "--tokens-per-minute"
    request_timeout: str = "--request-timeout"
    tries: str = "--tries"
    extra_body: str = "--extra-body"
    max_tokens: str = "--max-tokens"
    no_seed: str = "--no-seed"
    kind: str = "a chat endpoint"


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """How an OpenAI-compatible endpoint is asked. Raises BadValue for values that cannot work.

    base_url               up to and with /v1
    api_key                never shown, not even by repr; "" sends none
    api_key_env            the environment variable it came from
    concurrency            requests under way at once
    requests_per_minute    None: as fast as replies come
    tokens_per_minute      prompt and completion together; None: no limit
    request_timeout        seconds for one request, from the first byte sent to the last received
    tries                  requests for one attempt before it is set aside
    extra_body             merged into every request
    flags                  the command's names for them
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
    flags: EndpointFlags = field(default=EndpointFlags(), repr=False, compare=False)

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise BadValue("base_url", self.base_url, "an address such as http://127.0.0.1:8000/v1")
        if url.username or url.password or url.query:
            bare = f"{url.scheme}://{url.hostname}"  # the rest is secret
            wanted = "without user, password and query, which would be written into the data card"
            raise BadValue("base_url", bare, f"the bare address, {wanted}, and the key in ${self.api_key_env}")
        if not (self.api_key.isascii() and self.api_key.isprintable() and " " not in self.api_key):
            wanted = "a variable with a key that has only what an HTTP header may hold, and no blanks"
            raise BadValue("api_key_env", self.api_key_env, wanted)
        for name in ("concurrency", "tries"):
            if getattr(self, name) < 1:
                raise BadValue(name, getattr(self, name), "1 or more")
        for name in ("requests_per_minute", "tokens_per_minute", "request_timeout"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise BadValue(name, value, "more than 0")
        if "stream" in self.extra_body:
            shown = json.dumps({"stream": self.extra_body["stream"]})
            raise BadValue("extra_body", shown, "fields without `stream`: replies are read whole")


def endpoint_settings(
    base_url: str,
    api_key_env: str | None,
    concurrency: int,
    request_timeout: float,
    tries: int,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    extra_body: dict | None = None,
    flags: EndpointFlags = EndpointFlags(),  # noqa: B008 - it is frozen
) -> EndpointSettings:
    """With the key of an environment variable. Raises UserError, with the command's flags, for values that cannot work.

    api_key_env: None for the usual variable, which need not be set.
    """
    with in_flags(**asdict(flags)):
        key, variable = read_key(api_key_env)
        return EndpointSettings(
            base_url, key, variable, concurrency, requests_per_minute, tokens_per_minute, request_timeout, tries,
            extra_body or {}, flags,
        )  # fmt: skip


JUDGE_FLAGS = EndpointFlags(
    base_url="--judge-base-url",
    api_key_env="--judge-api-key-env",
    model="--judge-model",
    concurrency="--judge-concurrency",
    requests_per_minute="--judge-requests-per-minute",
    request_timeout="--judge-request-timeout",
    extra_body="--judge-extra-body",
    tries="",
    max_tokens="",
    no_seed="",
)
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
    return endpoint_settings(
        base_url, api_key_env, concurrency, request_timeout, JUDGE_TRIES, requests_per_minute, None, extra_body,
        JUDGE_FLAGS,
    )  # fmt: skip


def read_key(variable: str | None) -> tuple[str, str]:
    """The API key and the variable it is from. Raises BadValue if the variable the user named is not set."""
    if variable is None:
        return os.environ.get("OPENAI_API_KEY", "").strip(), "OPENAI_API_KEY"
    if not os.environ.get(variable, "").strip():
        raise BadValue("api_key_env", variable, "an environment variable that is set, and export the key in it")
    return os.environ[variable].strip(), variable
