"""Which of a problem's traces are kept. Pure functions.

A rule is a function from a problem's correct attempts, in the order they were asked, and `--keep-n` to those to keep,
in the order they are to have in the dataset. With `@unverified` it is given all attempts without a fault of form,
whatever their answer. Your own is given by dotted path, `package.module.function`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from openrlhf_math.data.trace import ENDS, TAGS
from openrlhf_math.registry import Registry
from openrlhf_math.rewards.extract import extract, visible, well_formed
from openrlhf_math.rewards.thinking import MARKS

# A stretch of a text is a loop if one part is in it so often, one copy right behind the other:
REPEATS_OF_WORDS = 30  # if the part holds a word of two letters or more, or
REPEATS = 5  # if the stretch is long: a table of zeros is not
LONG = 300  # words
GRAM = 8  # words by which an earlier copy is found
LONGEST_WORD = 200  # characters; a text with longer ones is cut into pieces, so that a loop within them is seen
_PIECE = re.compile(r"\\[a-zA-Z]{1,16}|[^\W\d_]{1,8}|\w{1,8}|[^\w\s]")
_WORD = re.compile(r"(?<![\\a-zA-Z])[^\W\d_]{2}")  # commands of LaTeX are none


def repeats_itself(text: str) -> bool:
    """Whether the text has a stretch in which it repeats one part exactly, see the numbers above.

    One pass over the words: as long as each is equal to the one a period before, the stretch grows; where it is not,
    the distance to the last place with the same `GRAM` words before it is the next period.
    """
    words = text.split()
    if max(map(len, words), default=0) > LONGEST_WORD:
        words = _PIECE.findall(text)
    if not _may_loop(Counter(words).values()):
        return False
    grams = list(zip(*(words[start:] for start in range(GRAM)), strict=False))
    if len(grams) - len(set(grams)) < REPEATS_OF_WORDS - 1 - GRAM:  # the fewest copies that a loop has
        return False
    last: dict[tuple[str, ...], int] = {}  # where a gram was last, by its end
    period = length = 0
    for place, gram in enumerate(grams, start=GRAM):
        if period and words[place - 1] == words[place - 1 - period]:
            length += 1
            if length >= REPEATS * period and length >= LONG:
                return True
            if length >= REPEATS_OF_WORDS * period and _WORD.search(" ".join(words[place - period : place])):
                return True
        else:
            period = place - last[gram] if gram in last else 0
            length = period + GRAM if period else 0
        last[gram] = place
    return False


def _may_loop(counts: Iterable[int]) -> bool:
    """Whether words that come so often can be in a loop: in one, each comes as often as the part. Rules out most texts
    at little cost.
    """
    often = [count for count in counts if count >= REPEATS]
    return max(often, default=0) >= REPEATS_OF_WORDS or sum(often) >= LONG


_OTHER_TAGS = (
    *(mark for marks in MARKS for mark in marks),
    *(tag for tags in TAGS.values() for tag in tags.answer or ()),
)


def refusal(text: str, finish_reason: str, style: str) -> str:
    """Why a trace is not an example to learn from, whatever its answer; "" if there is no objection."""
    if finish_reason == "length":
        return "truncated"
    if finish_reason != "stop":
        return f"ended by {finish_reason or 'an unknown cause'}"[:60]
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


@dataclass(frozen=True, slots=True)
class Attempt:
    """A trace. number: which of its problem's attempts. tokens: of the completion, None where the teacher is silent.

    outcome: of its grading: correct, wrong or ungraded.
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
    """Of a rule that is to choose among wrong and ungraded traces, too."""
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
    """The n best (2): fewest flaws of form first, then the shortest."""
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
