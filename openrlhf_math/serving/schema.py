"""Messages, wishes and responses: OpenAI's chat completions, and under `openrlhf_math` the evidence for the answer.

The other fields of a request are vLLM's, see `protocol`.

https://platform.openai.com/docs/api-reference/chat
"""

import time
import uuid
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

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

    def said(self) -> dict[str, str]:
        """As chat templates read it."""
        reasoning = self.reasoning or self.reasoning_content
        thought = {"reasoning": reasoning, "reasoning_content": reasoning} if reasoning else {}
        return {"role": "system" if self.role == "developer" else self.role, "content": self.text, **thought}


class Wishes(Strict):
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
