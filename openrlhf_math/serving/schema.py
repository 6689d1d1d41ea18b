"""Requests and responses: OpenAI's chat completions, and under `openrlhf_math` what the answer rests on.

https://platform.openai.com/docs/api-reference/chat
"""

import time
import uuid
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from openrlhf_math.serving.errors import ApiError


class Strict(BaseModel):
    """A field that is not known is an error: one that is misspelt must not be dropped in silence."""

    model_config = ConfigDict(extra="forbid")


class TextPart(Strict):
    type: Literal["text"]
    text: str


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class Wishes(Strict):
    """How this problem is to be solved; what is not given is as the server was started.

    rule: a name of `choose`. confidence: stop when the leader is ahead with this probability.
    """

    attempts: Annotated[int, Field(ge=1)] | None = None
    rule: str | None = None
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    tokens: Annotated[int, Field(ge=1)] | None = None
    confidence: Annotated[float, Field(gt=0.5, le=1)] | None = None


class StreamOptions(Strict):
    include_usage: bool | None = False
    continuous_usage_stats: Literal[False] | None = False


# Fields of OpenAI's and of vLLM's server that are taken where their value asks for nothing. Any other value is refused
# by name: to ignore it would be wrong.
ASK_FOR_NOTHING: dict[str, tuple] = {
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "parallel_tool_calls": (True, False),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "stop_token_ids": ([],),
    "include_stop_str_in_output": (False,),
    "ignore_eos": (False,),
    "min_tokens": (0,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "bad_words": ([],),
    "echo": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "add_special_tokens": (False,),
    "chat_template_kwargs": ({},),
    "priority": (0,),
    "return_token_ids": (False,),
}


class ChatRequest(Strict):
    """n: at most so many answers, each another one, the best first. max_tokens, stop: of one attempt.

    user, metadata, store: taken and not used. null is as if the field were not there.
    """

    messages: Annotated[list[Message], Field(min_length=1)]
    model: str | None = None
    n: Annotated[int, Field(ge=1)] = 1
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=32)] = []
    seed: Annotated[int, Field(ge=0, lt=2**62)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    openrlhf_math: Wishes = Wishes()

    @model_validator(mode="before")
    @classmethod
    def without_what_asks_for_nothing(cls, body):
        if not isinstance(body, dict):
            return body
        body = {
            name: value
            for name, value in body.items()
            if value is not None and not any(value == one for one in ASK_FOR_NOTHING.get(name, ()))
        }
        if isinstance(body.get("stop"), str):
            body["stop"] = [body["stop"]] if body["stop"] else []
        return body


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


class Choice(BaseModel):
    index: int
    message: Answer
    finish_reason: Literal["stop", "length"] = "stop"


class Usage(BaseModel):
    """Of all attempts together; the prompt, which they share, counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatResponse(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    openrlhf_math: Report


def read_request(body: bytes) -> ChatRequest:
    """Raises ApiError naming the first field at fault."""
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        said = first["msg"][0].lower() + first["msg"][1:]
        raise ApiError(400, f"{field}: {said}" if field else f"the body: {said}", field or None) from None


def fresh_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def now() -> int:
    return int(time.time())
