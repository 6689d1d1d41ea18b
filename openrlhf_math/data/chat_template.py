"""Chat templates: the form in which they read a message, and where they take and write its thinking.

Templates either take it from a field of the message and write it in their own form (`<seed:think>`, harmony's channel
`analysis`), or find `<think>` tags within the content. With neither, thinking is text like any other.

Templates of some vision models read a message only as a list of parts, and write an empty message for a text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from openrlhf_math.data.chat_date import chat_date, dated
from openrlhf_math.rewards.thinking import CLOSE, OPEN

if TYPE_CHECKING:
    from openrlhf_math.data.prompts import Tokenizer

QUESTION, ANSWER, THOUGHT = "8765", "4321", "9182"
FIELDS = ("reasoning_content", "reasoning", "thinking")
DUMPED = re.compile(r"['\"]type['\"]")  # a list of parts as JSON or Python: the template knows only texts
PARTS = "content"  # thinking as a part of the content, as Ministral's template takes it


@dataclass(frozen=True, slots=True)
class Form:
    """field: of the message, or PARTS. head: all that is in front of the thinking of an answer to QUESTION. closing:
    what is between thinking and answer. Without `shown` the template leaves out the thinking even of the last answer.
    """

    field: str
    head: str = ""
    closing: str = ""
    shown: bool = True


def find_form(tokenizer: "Tokenizer") -> Form | None:
    """None for a template that takes thinking from no field."""
    template = _text(tokenizer)
    for field in (*FIELDS, PARTS):
        if field != PARTS and field not in template:
            continue
        rendered = render(tokenizer, with_thinking({"role": "assistant", "content": ANSWER}, field, THOUGHT))
        if rendered is None or rendered.count(ANSWER) != 1:
            continue
        head, thought, rest = rendered.partition(THOUGHT)
        closing, answered, _ = rest.partition(ANSWER)
        if thought and answered and THOUGHT not in rest and closing.strip() and not DUMPED.search(closing):
            return Form(field, head, closing)
    read = (field for field in FIELDS if any(f"{before}{field}" in template for before in (".", "'", '"')))
    return next((Form(field, shown=False) for field in read), None)


def _text(tokenizer: "Tokenizer") -> str:
    """Of several named templates, the one that is rendered without tools."""
    template = tokenizer.chat_template
    return str(template.get("default") if isinstance(template, dict) else template)


def with_thinking(message: Mapping[str, Any], field: str, thinking: str) -> dict[str, Any]:
    """A message of the assistant with its thinking in this field."""
    if field == PARTS and thinking:
        parts = [{"type": "thinking", "thinking": thinking}, {"type": "text", "text": message["content"]}]
        return {**message, PARTS: parts}
    return dict(message) if field == PARTS else {**message, field: thinking}


def render(tokenizer: "Tokenizer", answer: Mapping[str, Any]) -> str | None:
    """A conversation of one turn, or None where the template refuses it."""
    messages = [{"role": "user", "content": QUESTION}, answer]
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception:  # of jinja2 and of the template itself
        return None


_forms: dict[tuple[str, str], Form | None] = {}  # by template and date, which may be in the head


def form_of(tokenizer: "Tokenizer") -> Form | None:
    """`find_form`, once for a template and a date."""
    key = (_text(tokenizer), chat_date())
    if key not in _forms:
        _forms[key] = find_form(tokenizer)
    return _forms[key]


def apart(tokenizer: "Tokenizer", messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages, with the thinking of the assistant's in the field that the chat template takes it from.

    It is found in `<think>` tags at the beginning of a content, or in a field of another name.
    """
    return [_apart(tokenizer, message) if message.get("role") == "assistant" else dict(message) for message in messages]


def _apart(tokenizer: "Tokenizer", message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    given = next((message[field] for field in FIELDS if message.get(field)), None)
    before, closed, answer = content.partition(CLOSE) if isinstance(content, str) else ("", "", "")
    if given is None and not closed:
        return dict(message)
    form = form_of(tokenizer)
    if form is None or (given is not None and form.field != PARTS and message.get(form.field)):
        return dict(message)
    rest = {name: value for name, value in message.items() if name not in FIELDS}
    if given is not None:
        return with_thinking(rest, form.field, given)
    head, opened, inside = before.partition(OPEN)
    if (opened and head.strip()) or CLOSE in answer:
        return dict(message)
    thinking = (inside if opened else head).strip()
    return with_thinking({**rest, "content": answer.lstrip()}, form.field, thinking)


PROBE = "8765"


def prepared(tokenizer: "Tokenizer") -> "Tokenizer":
    """Of every tokenizer that is loaded here: its template gets the run's date, and texts in the form that it reads."""
    tokenizer = dated(tokenizer)
    if tokenizer.chat_template and not _writes(tokenizer, PROBE) and _writes(tokenizer, _as_parts(PROBE)):
        render = tokenizer.apply_chat_template

        @wraps(render)
        def apply_chat_template(conversation: Sequence[dict[str, Any]], **options: Any) -> Any:
            messages = [{**message, "content": _as_parts(message.get("content"))} for message in conversation]
            return render(messages, **options)

        tokenizer.apply_chat_template = apply_chat_template  # type: ignore[method-assign]  # as in `dated`
    return tokenizer


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _writes(tokenizer: "Tokenizer", content: Any) -> bool:
    try:
        return PROBE in tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    except Exception:  # of jinja2 and of the template itself
        return False
