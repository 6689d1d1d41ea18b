"""Which of a problem's traces are kept. Pure functions.

A rule is a function from a problem's correct attempts, in the order they were asked, and `--keep-n` to those to keep,
in the order they are to have in the dataset. With `@unverified` it is given all attempts without a fault of form,
whatever their answer. Your own is given by dotted path, `package.module.function`.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from openrlhf_math.registry import Registry
from openrlhf_math.rewards.extract import extract, visible


@dataclass(frozen=True, slots=True)
class Attempt:
    """A trace. number: which of its problem's attempts. tokens: of the completion, None where the teacher is silent.

    outcome: of its grading: correct, wrong or undecided.
    """

    problem: str
    number: int
    response: str
    tokens: int | None
    outcome: str = "correct"

    @property
    def characters(self) -> int:
        return len(self.response)


Rule = Callable[[list[Attempt], int | None], list[Attempt]]
_RULES: Registry[Rule] = Registry()
# First words of the names of letters that any text on mathematics may hold.
_MATHEMATICS = {"LATIN", "GREEK", "MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT", "BLACK-LETTER", "MICRO", "ALEF"}


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


def unverified(rule: Rule) -> Rule:
    """Of a rule that is to choose among wrong and undecided traces, too."""
    vars(rule)["unverified"] = True
    return rule


def is_unverified(rule: Rule) -> bool:
    return getattr(rule, "unverified", False)


@register_keep_rule("all")
@unverified
def keep_all(attempts: list[Attempt], n: int | None) -> list[Attempt]:
    """Every trace without a fault of form, whatever its answer: the first n."""
    return attempts[:n]


@register_keep_rule("verified")
def keep_verified(attempts: list[Attempt], n: int | None) -> list[Attempt]:
    """Every correct trace: the first n."""
    return attempts[:n]


@register_keep_rule("shortest")
def keep_shortest(attempts: list[Attempt], n: int | None) -> list[Attempt]:
    """The n shortest correct traces (1), the first of several as short."""
    return sorted(attempts, key=length_of(attempts))[: n or 1]


@register_keep_rule("longest")
def keep_longest(attempts: list[Attempt], n: int | None) -> list[Attempt]:
    """The n longest correct traces (1), the first of several as long."""
    return sorted(attempts, key=length_of(attempts), reverse=True)[: n or 1]


@register_keep_rule("best")
def keep_best(attempts: list[Attempt], n: int | None) -> list[Attempt]:
    """The n best (2): fewer blemishes of form first, then the shorter."""
    length = length_of(attempts)
    return sorted(attempts, key=lambda attempt: (blemishes(attempt), length(attempt)))[: n or 2]


class Trace(Protocol):
    """What has a length: an attempt, or the verdict on one. tokens: None where the teacher gives no number."""

    @property
    def tokens(self) -> int | None: ...

    @property
    def characters(self) -> int: ...


def length_of(traces: Sequence[Trace]) -> Callable[[Trace], int]:
    """How the lengths of these traces are compared: in tokens, or in characters if one lacks its number of tokens."""
    return attrgetter("tokens" if all(trace.tokens is not None for trace in traces) else "characters")


def _scripts(text: str) -> set[str]:
    """The scripts of a text's letters, by the first word of their Unicode names."""
    return {unicodedata.name(letter, "?").split()[0] for letter in set(text) if letter.isalpha()} - _MATHEMATICS
