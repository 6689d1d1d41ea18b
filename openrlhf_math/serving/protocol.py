"""OpenAI's chat completions: requests, messages and responses, and our fields of them under `openrlhf_math`.

https://platform.openai.com/docs/api-reference/chat

vLLM's model of the protocol validates the fields of a request that are not declared here; `read_request` decides their
use. Importing vLLM takes seconds, so it is imported by the process that serves, when the first request is read or
`prepare` runs, never by the command.
"""

import functools
import os
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError, from_json

from openrlhf_math.serving.errors import ApiError

MOST_INTEGER = 2**53  # a float holds no larger one exactly


class Strict(BaseModel):
    """An unknown field is an error: a misspelt one must not be dropped silently."""

    model_config = ConfigDict(extra="forbid")


class TextPart(Strict):
    type: Literal["text", "input_text", "output_text"] = "text"
    text: str


class Message(BaseModel):
    """One turn. What a response of OpenAI's has besides is taken where it is empty, so that a client can send back what
    it got; reasoning goes to the chat template, as in vLLM."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart | str]
    name: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None

    @model_validator(mode="after")
    def _has_no_more_than_text(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if value not in (None, [], {}, ""):
                raise PydanticCustomError("not_text", "{name}: this server reads text alone", {"name": name})
        return self

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part if isinstance(part, str) else part.text for part in self.content)

    def as_dict(self) -> dict[str, str]:
        """As chat templates read it."""
        reasoning = self.reasoning or self.reasoning_content
        thought = {"reasoning": reasoning, "reasoning_content": reasoning} if reasoning else {}
        return {"role": "system" if self.role == "developer" else self.role, "content": self.text, **thought}


class SolveOptions(Strict):
    """How this problem is to be solved; what is not given is as the server was started.

    rule: a name of `choose`. confidence: stop when the leader is ahead with this probability.
    """

    attempts: Annotated[int, Field(ge=1, le=MOST_INTEGER)] | None = None
    rule: str | None = None
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    tokens: Annotated[int, Field(ge=1, le=MOST_INTEGER)] | None = None
    confidence: Annotated[float, Field(gt=0.5, le=1)] | None = None


class Vote(BaseModel):
    """One answer: how many attempts gave it, and the best score among them, None without a scorer."""

    answer: str
    votes: int
    score: float | None


class AttemptReport(BaseModel):
    """scores: of its steps, or one for the whole; None without. score: what was made of them."""

    answer: str | None
    vote: int | None = Field(description="index in `votes`, None for an attempt without an answer")
    score: float | None
    scores: float | list[float | None] | None
    tokens: int
    by: str
    confidence: dict[str, float] | None = Field(None, description="of the model, where the rule or a flag asks for it")


class Report(BaseModel):
    """What an answer rests on, see `Solution` and `Decision`. prompt_tokens are not in `tokens`."""

    answer: str | None
    chosen: int | None
    rule: str
    votes: list[Vote]
    attempts: list[AttemptReport]
    unscored: int
    left_out: int
    unmeasured: int
    by_model: bool | None
    ended: str
    tokens: int
    tokens_saved: int
    not_counted: int
    seconds: float


class Answer(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    index: int
    message: Answer
    logprobs: None = None
    finish_reason: Literal["stop", "length"] = "stop"


class Usage(BaseModel):
    """Of all attempts together; the prompt, which they share, counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, prompt: int, completion: int) -> "Usage":
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class ChatResponse(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    openrlhf_math: Report


def fresh_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def now() -> int:
    return int(time.time())


# Fields of the request that draw a completion: to those of `Sampling`.
DRAWS = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
    "reasoning_effort", "chat_template_kwargs",
)  # fmt: skip
# Likewise, as vLLM's SamplingParams has them: to `Sampling.more`.
DRAWS_MORE = (
    "logit_bias", "stop_token_ids", "ignore_eos", "min_tokens", "skip_special_tokens", "spaces_between_special_tokens",
    "bad_words", "allowed_token_ids",
)  # fmt: skip
READ = {*DRAWS, *DRAWS_MORE, "messages", "model", "n", "max_tokens", "max_completion_tokens", "seed", "stop", "stream",
        "stream_options", "include_stop_str_in_output", "request_id"}  # fmt: skip
# Answers do not depend on them: the client's identity, chunking of text, and options for images or beams.
WITHOUT_EFFECT = {
    "user", "metadata", "store", "service_tier", "session_id", "safety_identifier", "prediction", "moderation",
    "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "parallel_tool_calls", "length_penalty",
    "truncation_side", "media_io_kwargs", "mm_processor_kwargs", "return_tokens_as_token_ids", "return_token_offsets",
    "return_assistant_tokens_mask", "routed_experts_prompt_start", "stream_interval",
}  # fmt: skip
# Values that ask for nothing, where that is not to be seen from the field's default in vLLM's model.
ASKS_NOTHING = {
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "verbosity": ("medium",),
}
MOST_STOPS = 32
MOST_ENTRIES = 1024  # of a list or an object that every attempt is given
MOST_CHARACTERS = 65536  # likewise


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a request asks for; what it does not say is as the server was started.

    n           at most so many answers, each another one, the best first
    drawn       fields of `Sampling` that it sets, for each attempt
    keep_stop   the text has what stopped it at its end
    usage       a stream ends with the usage; continuous_usage: each chunk has it
    identity    of the response
    """

    messages: list[Message]
    model: str | None = None
    n: int = 1
    seed: int | None = None
    drawn: dict[str, Any] = field(default_factory=dict)
    keep_stop: bool = False
    stream: bool = False
    usage: bool = False
    continuous_usage: bool = False
    options: SolveOptions = field(default_factory=SolveOptions)
    identity: str = field(default_factory=fresh_id)


class OfOurs(BaseModel):
    """The fields that vLLM's model does not say, or says otherwise."""

    model_config = ConfigDict(extra="allow")

    messages: list[Message] = Field(min_length=1)
    openrlhf_math: SolveOptions = SolveOptions()
    n: int = Field(1, ge=1)
    stop: list[str] | str = []


@functools.cache
def protocol_model() -> type[BaseModel]:
    """vLLM's ChatCompletionRequest. Its import would write to standard output, where the address is."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    return ChatCompletionRequest


def prepare() -> None:
    """Import vLLM's model in a thread, so that neither the start nor the first request waits for it."""
    threading.Thread(target=protocol_model, daemon=True, name="vLLM's protocol").start()


def read_request(body: bytes) -> ChatRequest:
    """Raises ApiError naming the first field at fault. It may take long: not for an event loop."""
    try:
        given = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ApiError(400, "the body: it must be a JSON object")
    given = {name: value for name, value in given.items() if value is not None}  # null: as if it were not there
    ours = _ours(given)
    fields = {name: value for name, value in given.items() if name not in OfOurs.model_fields}
    fields = {name: value for name, value in fields.items() if value not in ASKS_NOTHING.get(name, ())}
    for name in [name for name, value in fields.items() if name in WITHOUT_EFFECT or value == []]:
        del fields[name]
    read = _vllms(fields)
    for name in fields:
        if name not in READ and not _is_nothing(read, name):
            raise ApiError(400, f"{name}: this server does not know or do that; leave it out", name)
    return _request(ours, fields, read)


def _ours(given: dict) -> OfOurs:
    try:
        ours = OfOurs.model_validate(given)
    except ValidationError as error:
        raise _named(error) from None
    stops = [ours.stop] if isinstance(ours.stop, str) and ours.stop else list(ours.stop)
    if sum(map(len, stops)) > MOST_CHARACTERS:
        raise ApiError(400, f"stop: give at most {MOST_CHARACTERS} characters", "stop")
    for number, stop in enumerate(stops):
        if not stop or number == MOST_STOPS:
            wrong = f"more than {MOST_STOPS} texts" if stop else "a text is empty"
            raise ApiError(400, f"stop.{number}: {wrong}", f"stop.{number}")
    ours.stop = stops
    return ours


def _vllms(fields: dict) -> BaseModel:
    """vLLM's request of these fields. Its messages are not ours: they were read before."""
    model = protocol_model()
    try:
        return model.model_validate({"messages": [], **fields})
    except ValidationError as error:
        raise _named(error) from None
    except Exception as error:  # its own, and what its checks raise for values of another type
        raise _refused(error, fields) from None


def _refused(error: Exception, fields: dict) -> ApiError:
    from vllm.exceptions import VLLMClientError

    reason = str(error.args[0]) if isinstance(error, VLLMClientError) and error.args else "it is of another type"
    words = reason.replace("`", " ").split()
    name = getattr(error, "parameter", None) or next((word for word in words if word in fields), None)
    name = name or _at_fault(fields)
    return ApiError(400, f"{name}: {reason}" if name else f"the body: {reason}", name)


def _at_fault(fields: dict) -> str | None:
    """The field that is wrong by itself, None if there is none."""
    for name, value in fields.items():
        try:
            protocol_model().model_validate({"messages": [], name: value})
        except Exception:
            return name
    return None


def _is_nothing(read: BaseModel, name: str) -> bool:
    """Whether a field has the value that it has when it is not given, or an empty one where that is empty too."""
    known = type(read).model_fields.get(name)
    if known is None:
        return getattr(read, name, None) in ({}, [])
    value, default = vars(read)[name], known.get_default(call_default_factory=True)
    return value == default or (not default and not value and isinstance(value, bool | dict | list | str))


def _request(ours: OfOurs, fields: dict, read: BaseModel) -> ChatRequest:
    value = vars(read)  # not by attribute: some are deprecated
    limits = [value[name] for name in ("max_completion_tokens", "max_tokens") if name in fields]
    _check_sizes(fields)
    try:
        parameters = cast(Any, read).to_sampling_params(limits[0] if limits else None, {})  # of vLLM's model
    except Exception as error:
        raise _refused(error, fields) from None
    drawn = {name: value[name] for name in DRAWS if name in fields}
    if "top_k" in drawn:
        drawn["top_k"] = max(drawn["top_k"], 0)
    if limits:
        drawn["max_tokens"] = limits[0]
    if ours.stop:
        drawn["stop"] = tuple(ours.stop)
    more = {name: getattr(parameters, name) for name in DRAWS_MORE if name in fields and not _is_nothing(read, name)}
    if more:
        drawn["more"] = more
    options = value["stream_options"]
    return ChatRequest(
        messages=ours.messages,
        model=value["model"],
        n=ours.n,
        seed=value["seed"],
        drawn=drawn,
        keep_stop=value["include_stop_str_in_output"],
        stream=bool(value["stream"]),
        usage=bool(options and options.include_usage),
        continuous_usage=bool(options and options.include_usage and options.continuous_usage_stats),
        options=ours.openrlhf_math,
        identity=f"chatcmpl-{value['request_id']}",
    )


def _check_sizes(fields: dict) -> None:
    """Raises ApiError for values that would keep the engine busy at every attempt."""
    for name in (*DRAWS_MORE, "chat_template_kwargs", "request_id"):
        value = fields.get(name)
        if isinstance(value, list | dict) and len(value) > MOST_ENTRIES or len(str(value)) > MOST_CHARACTERS:
            raise ApiError(400, f"{name}: give at most {MOST_ENTRIES} entries and {MOST_CHARACTERS} characters", name)


def _named(error: ValidationError) -> ApiError:
    """Of a value that may be of several types, the error that is deepest in it: that of the type it has."""
    errors = error.errors(include_url=False, include_input=False)
    first = errors[0]
    if first["loc"] and _is_type(first["loc"][-1]):
        field = first["loc"][:-1]
        of_field = [one for one in errors if one["loc"][: len(field)] == field]
        first = max(of_field, key=lambda one: len(_path(one["loc"])))
    named = ".".join(_path(first["loc"]))
    message = first["msg"][0].lower() + first["msg"][1:]
    return ApiError(400, f"{named}: {message}" if named else f"the body: {message}", named or None)


def _path(location: tuple[int | str, ...]) -> list[str]:
    return [str(part) for part in location if not _is_type(part)]


def _is_type(part: int | str) -> bool:
    """Whether a part of a location names a type that a value may have, not a field."""
    return isinstance(part, str) and (part == "str" or "[" in part or part[:1].isupper())
