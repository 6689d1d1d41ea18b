"""Replies of an OpenAI-compatible endpoint: a completion, or the text of an error. Pure functions."""

import json
import math
from dataclasses import dataclass, field

MOST_COUNTED = 1 << 24  # tokens of a prompt or a completion; no model has so long a context
CUT_OFF = ("length", "max_tokens", "max_output_tokens", "model_length")  # as servers call the limit
BROKEN_OFF = ("error", "abort", "cancelled")
UNLIKELIEST = -9999.0  # what vLLM's server writes for the logarithm of a probability of 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote.

    reasoning: where the endpoint separates it from the content, else "". finish_reason: "stop" for a whole reply,
    "length" for one the limit cut off. tokens, prompt_tokens: of completion and prompt, None where `usage` does not
    say. stop_reason: the stop text that ended it, "" where the endpoint does not say (vLLM's and SGLang's do).
    logprobs: for each token its log-probability, then those of the likeliest tokens at its place, NaN for one that is
    no number; empty where the endpoint gives none. model: that wrote it, "" where the endpoint does not say. tool: what
    was done with the tool, as `ToolUse.as_row`, where this machine ran it; its output is in the content and not in the
    tokens.
    """

    content: str
    reasoning: str
    finish_reason: str
    tokens: int | None
    prompt_tokens: int | None = None
    stop_reason: str = ""
    logprobs: list[list[float]] = field(default_factory=list, repr=False)
    model: str = ""
    tool: dict[str, float] | None = None


class Failure(Exception):
    """A request that brought no reply, after all tries; its text is the reason.

    final: no repetition can help. setup: nor can another request, since nothing was answered yet and a flag is wrong.
    """

    def __init__(self, reason: str, final: bool = False, setup: bool = False) -> None:
        super().__init__(reason)
        self.final, self.setup = final, setup


@dataclass
class FailedTry(Exception):
    """One try that failed. kind: what it is counted as. words: what the endpoint said. status: HTTP's, if any.

    retry_after: seconds the endpoint asks to wait. setup: the kind of failure that a wrong flag makes. final: no
    repetition can help.
    """

    kind: str
    words: str = ""
    status: int = 0
    retry_after: float = 0.0
    setup: bool = False
    final: bool = False

    def __str__(self) -> str:
        return f"{self.kind} ({self.words})" if self.words else self.kind


def parse(body: str) -> tuple[Answer, int]:
    """A reply and the tokens it is charged, prompt and completion. Raises FailedTry for any other body."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise nonsense(body) from None
    try:
        choice = data["choices"][0]
        message = choice["message"]
        content, thoughts = _texts(message.get("content") or "")
        reasoning = message.get("reasoning_content") or message.get("reasoning") or thoughts
        finish_reason = choice.get("finish_reason") or ""
        called, fault = message.get("tool_calls"), choice.get("error")
        named = data.get("model")
        stopped = choice.get("stop_reason") or choice.get("matched_stop")
        usage = data.get("usage") or {}
        logprobs = _logprobs(choice.get("logprobs"))
        tokens, prompt = (tokens_of(usage.get(name)) for name in ("completion_tokens", "prompt_tokens"))
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise nonsense(body) from None
    if not all(isinstance(text, str) for text in (content, reasoning, finish_reason)):
        raise nonsense(body)
    if fault or finish_reason in BROKEN_OFF:
        raise nonsense(f"a reply that ended by an error: {words_of(json.dumps(fault or finish_reason).encode())}")
    if called and not content and not reasoning:
        raise nonsense("a call of a tool in place of text; serve the model without a parser of tool calls")
    if finish_reason.lower() in CUT_OFF:
        finish_reason = "length"
    if not tokens and (content or reasoning):
        tokens = None  # some servers write 0 where they do not count
    stop = _unicode(stopped) if isinstance(stopped, str) else ""  # a number is a token's
    answer = Answer(
        content=_unicode(content),
        reasoning=_unicode(reasoning),
        finish_reason=plain(finish_reason),
        tokens=tokens,
        prompt_tokens=prompt,
        stop_reason=stop,
        logprobs=logprobs,
        model=plain(named) if isinstance(named, str) else "",
    )
    return answer, (tokens or 0) + (prompt or 0)


def _texts(content: object) -> tuple[str, str]:
    """The text of a message's content and its thinking: it may be a list of parts of either kind.

    Raises TypeError for what is neither a text nor such a list.
    """
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        raise TypeError
    texts, thoughts = [], []
    for part in content:
        kind = part.get("type")
        if kind in ("text", "output_text"):
            texts.append(part["text"])
        elif kind in ("thinking", "reasoning"):
            thought = part.get("thinking") or part.get("reasoning") or part.get("text") or ""
            thoughts.append(thought if isinstance(thought, str) else _texts(thought)[0])
        else:
            raise TypeError
    return "".join(texts), "".join(thoughts)


def _logprobs(logprobs: object) -> list[list[float]]:
    """Of a choice's `logprobs` in OpenAI's form; empty for any other, since not every request asks for them."""
    try:
        content = logprobs.get("content") if isinstance(logprobs, dict) else None
        return [
            [_logarithm(one["logprob"]), *(_logarithm(other["logprob"]) for other in one.get("top_logprobs") or ())]
            for one in content or ()
        ]
    except (TypeError, KeyError, AttributeError):
        return []


def _logarithm(value: object) -> float:
    """The logarithm of a probability, which may be rounded to above 0; NaN for what is none."""
    return float(value) if isinstance(value, int | float) and UNLIKELIEST < value < 1 else math.nan


def nonsense(body: str) -> FailedTry:
    return FailedTry("nonsense instead of a completion", plain(body), setup=True)


def words_of(body: bytes) -> str:
    """What an error body says: the message of OpenAI's form or of others, else its beginning."""
    text = body[:10_000].decode("utf-8", errors="replace")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return plain(text)
    error = data.get("error") if isinstance(data, dict) else None
    for place in (error, data):
        if isinstance(place, str):
            return plain(place)
        if isinstance(place, dict):
            message = next((place[name] for name in ("message", "detail", "msg") if place.get(name)), None)
            if message:
                return plain(message if isinstance(message, str) else json.dumps(message))
    return plain(text)


def plain(text: str) -> str:
    """The beginning of a text, on one line."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text[:600]).split())[:300]


def _unicode(text: str) -> str:
    """JSON can spell halves of surrogate pairs, which no UTF-8 file can hold."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def tokens_of(value: object) -> int | None:
    """A count of tokens, None for what cannot be one: it decides how long the next requests wait."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_COUNTED else None
