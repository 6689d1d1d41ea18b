"""Which traces are refused, whatever their answer. Pure functions."""

from openrlhf_math.data.trace import ENDS, TAGS
from openrlhf_math.distill.repetition import repeats_itself
from openrlhf_math.rewards.extract import extract
from openrlhf_math.rewards.wellformed import well_formed

_OTHER_TAGS = tuple(
    tag for name, tags in TAGS.items() if name != "think" for tag in (*tags.thinking, *(tags.answer or ()))
)


def refusal(text: str, finish_reason: str, style: str) -> str:
    """Why a trace is no example to learn from, whatever its answer; "" if nothing speaks against it."""
    if finish_reason == "length":
        return "truncated"
    if finish_reason != "stop":
        return f"ended by {finish_reason or 'nobody knows what'}"[:60]
    if not text.strip():
        return "empty"
    if any(end in text for end in ENDS):
        return "an end-of-sequence token inside"
    if other := next((tag for tag in _OTHER_TAGS if tag in text), ""):
        return f"other tags, {other}"
    if text.count("<think>") > text.count("</think>"):
        return "thinking not closed"
    if style == "think" and "</think>" not in text:
        return "no thinking"
    extraction = extract(text, style)
    if not extraction.boxes:
        return "no boxed answer"
    if not well_formed(text, extraction, style):
        return "two answers" if len(set(extraction.boxes)) > 1 else "malformed"
    return "repeats itself" if repeats_itself(text) else ""
