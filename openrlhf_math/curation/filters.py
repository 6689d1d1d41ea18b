r"""Filters: each a pure function from a row to the reason for removing it, or "" to keep it.

The order is the order of the registry; a row is counted at the first filter that drops it. A user's filter is given by
the dotted path of a function from a `Row` to such a reason.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from openrlhf_math.curation.figures import missing_figure
from openrlhf_math.data.schema import Row
from openrlhf_math.registry import Registry
from openrlhf_math.rewards import UnparsableGold, parse_gold
from openrlhf_math.rewards.choices import choice, options, several


@dataclass(frozen=True, slots=True)
class Limits:
    """What the filters measure by: characters of a problem, and the language ("en", or "any")."""

    min_chars: int = 10
    max_chars: int = 8_000
    language: str = "en"

    def __post_init__(self) -> None:
        if not 0 <= self.min_chars < self.max_chars:
            raise ValueError(f"--min-chars {self.min_chars} and --max-chars {self.max_chars} leave no length between")
        if self.language not in ("en", "any"):
            raise ValueError(f"--language is '{self.language}', it must be en or any")


Filter = Callable[[Row, Limits], str]
FILTERS: Registry[Filter] = Registry()
register_filter = FILTERS.register


def find_filter(name: str) -> Filter:
    """A known filter, or the user's by dotted path, which takes a row alone. Raises UserError if there is none."""
    if name in FILTERS:
        return FILTERS[name]
    own = cast(Callable[[Row], str], FILTERS.find("--filters", name))
    return lambda row, limits: own(row)


@register_filter("length")
def wrong_length(row: Row, limits: Limits) -> str:
    length = len(row.problem)
    return "" if limits.min_chars <= length <= limits.max_chars else f"the problem has {length} characters"


@register_filter("flawed")
def flawed(row: Row, limits: Limits) -> str:
    return row.flaw


_PROVE = re.compile(
    r"\bprove\b|\b(?:show|demonstrate|verify|justify)\b(?:\s{1,8}\w{1,40}){0,3}\s{1,8}(?:that|if|the\b|:)", re.I
)
_ASK = re.compile(r"\?|\b(?:find|determine|compute|calculate|evaluate|solve|simplify|what|how|which|express)\b", re.I)


@register_filter("proof")
def proof(row: Row, limits: Limits) -> str:
    """A proof has no answer to check; "show that ..., and find x" has one."""
    if row.kind == "proof":
        return "the source calls it a proof"
    if row.answer.strip().strip(".").lower() in ("proof", "prove", "q.e.d", "qed"):
        return "the gold answer is 'proof'"
    return "it asks for a proof alone" if _PROVE.search(row.problem) and not _ASK.search(row.problem) else ""


@register_filter("choice")
def unchecked_choice(row: Row, limits: Limits) -> str:
    """Multiple choice whose letter says nothing: without the options, a letter may be a value."""
    letter, value = choice(row.answer)
    letters = several(row.answer) or ({letter} if letter and not value else set())
    if not letters or row.kind != "choice" and not _offers(row.problem):
        return ""
    missing = sorted(letters - set(options(row.problem)))
    return f"option {missing[0]} of a multiple choice is not in the problem" if missing else ""


def _offers(problem: str) -> bool:
    return bool(options(problem)) or "which of the following" in problem.lower()


@register_filter("figure")
def figure(row: Row, limits: Limits) -> str:
    """A figure that is not in the text: the answer cannot be had without it."""
    return missing_figure(row.problem)


_NO_ANSWER = {"notfound", "not found", "none", "null", "nan", "n/a", "unknown"}


@register_filter("gold")
def unparsable_gold(row: Row, limits: Limits) -> str:
    if row.answer.strip().lower() in _NO_ANSWER:
        return f"the gold answer is {row.answer.strip()!r}"
    try:
        parse_gold(row.answer)
    except UnparsableGold as error:
        return str(error)
    return ""


# Letters beyond Latin. Greek is mathematics.
_FOREIGN = re.compile(r"[^\W\d_\u0000-\u024f\u0370-\u03ff]")
_LETTER = re.compile(r"[^\W\d_]")
_FORMULA = re.compile(
    r"\$\$[^$]*\$\$|\$[^$]*\$|\\\([^\\]{0,400}(?:\\[^()][^\\]{0,400}){0,60}\\\)"
    r"|\\\[[^\\]{0,400}(?:\\[^\[\]][^\\]{0,400}){0,60}\\\]|\\[a-zA-Z]+"
)
_WORD = re.compile(r"[^\W\d_]{2,}")
# Function words of English. A text in another language in Latin script has few of these.
_ENGLISH_WORDS = (
    "the of is are and to in that if for what how find which with by be on it at each one two many was has have from"
    " can than then there let given as or not all when number value such where determine compute he she his her they"
    " does did will after more some"
)
_OTHER_WORDS = (
    "el la los las del que es una un por para con se en cual cuantos le les des et est une dans pour sur du au quel"
    " der die das und ist ein eine mit von den dem wie viele zu il di che per della quanti sono o os da em uma com qual"
    " het een van voor met hoeveel att och som av ile jest jaki nie ve bir bu kac"
)
_ENGLISH, _OTHER = frozenset(_ENGLISH_WORDS.split()), frozenset(_OTHER_WORDS.split())


@register_filter("language")
def other_language(row: Row, limits: Limits) -> str:
    """Not English: another script, or another language's small words. Formulas do not count."""
    if limits.language == "any":
        return ""
    text = _FORMULA.sub(" ", row.problem)
    if not text.isascii() and _foreign_share(text) > 0.2:
        return "it is in another script"
    words = [word.lower() for word in _WORD.findall(text)]
    english, other = (sum(word in known for word in words) for known in (_ENGLISH, _OTHER))
    return "it is in another language" if len(words) >= 5 and other > english and other >= 2 else ""


def _foreign_share(text: str) -> float:
    return len(_FOREIGN.findall(text)) / max(len(_LETTER.findall(text)), 1)
