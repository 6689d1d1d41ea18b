r"""Which traces are refused, and which of a problem's correct ones are kept. Pure functions.

A rule is a function from a problem's correct attempts, in the order they were asked, and `--keep-n` to those to keep,
in the order they are to stand in the dataset. One's own is given by dotted path, `package.module.function`.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from openrlhf_math.registry import Registry
from openrlhf_math.rewards.extract import extract, visible
from openrlhf_math.rewards.wellformed import well_formed


@dataclass(frozen=True, slots=True)
class Attempt:
    """A trace. number: which of its problem's attempts. tokens: of the completion, None where the teacher is silent."""

    problem: str
    number: int
    response: str
    tokens: int | None


Rule = Callable[[list[Attempt], int], list[Attempt]]
_RULES: Registry[Rule] = Registry()
# First words of the names of letters that any text on mathematics may hold.
_MATHEMATICS = {"LATIN", "GREEK", "MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT", "BLACK-LETTER", "MICRO", "ALEF"}


def trace(content: str, reasoning: str) -> str:
    """A reply as one text: `<think>`, the reasoning, `</think>`, the answer.

    Endpoints give the reasoning apart, in tags, or with a closing tag alone where the chat template has opened it.
    """
    if reasoning.strip():
        closed = f"\n</think>\n\n{content.strip()}" if content.strip() else ""
        return f"<think>\n{reasoning.strip()}{closed}"
    content = content.strip()
    if "</think>" in content and "<think>" not in content:
        return f"<think>\n{content}"
    return content


def refusal(text: str, finish_reason: str, style: str) -> str:
    """Why a trace is no example to learn from, whatever its answer; "" if nothing speaks against it."""
    if finish_reason == "length":
        return "truncated"
    if finish_reason != "stop":
        return f"ended by {finish_reason or 'nobody knows what'}"[:60]
    if not text.strip():
        return "empty"
    if text.count("<think>") > text.count("</think>"):
        return "thinking not closed"
    if style == "think" and "</think>" not in text:
        return "no thinking"
    extraction = extract(text, style)
    if not extraction.boxes:
        return "no boxed answer"
    if not well_formed(text, extraction, style):
        return "two answers" if len(set(extraction.boxes)) > 1 else "malformed"
    return ""


def blemishes(attempt: Attempt) -> int:
    """Faults of form that do not refuse a trace but rank it lower: the more, the worse.

    The answer boxed more than once; <answer> tags around it; a script that the problem is not written in.
    """
    answer = visible(attempt.response)
    scripts = _scripts(attempt.response) - _scripts(attempt.problem)
    return (len(extract(attempt.response).boxes) > 1) + ("<answer>" in answer) + bool(scripts)


register_keep_rule = _RULES.register


def find_rule(name: str) -> Rule:
    """The rule called `name`. Raises UserError if there is none."""
    return _RULES.find("--keep", name)


@register_keep_rule("all")
def keep_all(attempts: list[Attempt], n: int) -> list[Attempt]:
    """Every correct trace."""
    return attempts


@register_keep_rule("shortest")
def keep_shortest(attempts: list[Attempt], n: int) -> list[Attempt]:
    """The shortest correct trace, the first of several as short."""
    return sorted(attempts, key=length_of(attempts))[:1]


@register_keep_rule("best")
def keep_best(attempts: list[Attempt], n: int) -> list[Attempt]:
    """The n best: fewer blemishes of form first, then the shorter."""
    length = length_of(attempts)
    return sorted(attempts, key=lambda attempt: (blemishes(attempt), length(attempt)))[:n]


def length_of(attempts: list[Attempt]) -> Callable[[Attempt], int]:
    """How these attempts' lengths are compared: in tokens, or in characters if not all tell their tokens."""
    if all(attempt.tokens is not None for attempt in attempts):
        return lambda attempt: attempt.tokens
    return lambda attempt: len(attempt.response)


def _scripts(text: str) -> set[str]:
    """The scripts of a text's letters, by the first word of their Unicode names."""
    return {unicodedata.name(letter, "?").split()[0] for letter in set(text) if letter.isalpha()} - _MATHEMATICS
