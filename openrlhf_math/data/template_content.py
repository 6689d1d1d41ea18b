"""A tokenizer as this package renders with it, whatever its chat template wants.

Templates of some vision models read a message only as a list of parts, and write an empty message for a text.
"""

from collections.abc import Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

from openrlhf_math.data.chat_date import dated

if TYPE_CHECKING:
    from openrlhf_math.data.prompts import Tokenizer

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
