"""Step 3: is the answer the gold answer? Everything that can be said without computing values.

`compare` puts the parts together: the same text, multiple choice, numbers, answers that only repeat the question. What
it leaves open, a worker process decides (see `same.py`).

A relation that is still to be solved is wrong: `x+1 < 4` where the gold is `x < 3`, `x-3 = 0` where it is `x = 3`. The
symbolic comparison would solve it for the policy. Solved is a relation with a bare variable on one side that
occurs on no other, as in `-2 < x < 2`, or its absolute value, `|x| < 2`.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from openrlhf_math.rewards.choices import choice, options, several, together
from openrlhf_math.rewards.gold import Gold, UnparsableGold, gold_of, parse_gold
from openrlhf_math.rewards.measures import Measure
from openrlhf_math.rewards.notation import MAX_ANSWER, balanced, key, tidy, unstyled
from openrlhf_math.rewards.number import Number, read_number
from openrlhf_math.rewards.restated import restated
from openrlhf_math.rewards.shape import shape, sides
from openrlhf_math.rewards.words import is_words, meaning, same_words

PLACES = 6
# As many digits as a double has: an error in the last one is the machine's.
MACHINE_DIGITS = 16
_HALF = Fraction(1, 2)


def same_number(gold: Number, answer: Number) -> bool:
    r"""Compare two values and their units. `50\%` equals both `0.5` and `50`: questions ask for it either way."""
    if not same_units(gold.unit, answer.unit):
        return False
    if "ratio" in (gold.form, answer.form) and gold.form != answer.form:
        other = answer if gold.form == "ratio" else gold
        if other.unit or other.percent or other.value.denominator == 1:
            return False
    if gold.percent and answer.unit or gold.unit and answer.percent:
        return False
    if gold.percent != answer.percent:
        return _same_percent(gold, answer)
    if gold.unit and answer.unit and gold.unit.factor != answer.unit.factor:
        return gold.value * gold.unit.factor == answer.value * answer.unit.factor
    return gold.value == answer.value or _rounds(gold, answer)


def same_units(gold: Measure | None, answer: Measure | None) -> bool:
    """A unit may be left out, and added where the gold has none; two must have the same dimension."""
    if not gold or not answer or gold == answer:
        return True
    return gold.agrees(answer)


def _rounds(gold: Number, answer: Number) -> bool:
    for short, other in ((answer, gold), (gold, answer)):
        if short.decimal is None or short.percent:
            continue
        places, digits = short.decimal
        if other.decimal is not None and other.decimal[0] <= places and digits < MACHINE_DIGITS:
            continue
        if places < PLACES or digits < PLACES or other.value.denominator == 1:
            continue
        gap = abs(other.value - short.value)
        if gap <= _HALF / 10**places or digits >= MACHINE_DIGITS and gap < abs(other.value) / 10**15:
            return True
    return False


def _same_percent(gold: Number, answer: Number) -> bool:
    """`25%` is 0.25 and 25; 25 is `25%`, 204 is not `20400%`."""
    percent, plain = (gold, answer) if gold.percent else (answer, gold)
    if percent.value == plain.value:
        return True
    if plain is gold and plain.value.denominator == 1 and abs(plain.value) > 1 and plain.form == "integer":
        return False
    part = Number(
        percent.value / 100, percent.form, decimal=percent.decimal and (percent.decimal[0] + 2, percent.decimal[1])
    )
    whole = Number(plain.value, plain.form, decimal=plain.decimal)
    return part.value == whole.value or _rounds(whole, part)


POINT_NAME = re.compile(r"\A[A-Z]'? ?(?=[(\[])")
_NAME = re.compile(r"\A[A-Za-z]'?(?:_(?:[A-Za-z0-9]|\{[^{}]{1,20}\}))?(?:\([A-Za-z]\))?\Z")
DECIMAL_COMMA = re.compile(r"\A-?[0-9]{1,9},(?:[0-9]{1,2}|[0-9]{4,12})\Z")
_LETTER = re.compile(r"\A[A-Za-z]\Z")


@dataclass(frozen=True, slots=True)
class Comparison:
    """`same` is the verdict; None if `gold` and `answer`, both tidied LaTeX, are still to be compared by value."""

    same: bool | None
    gold: str = ""
    answer: str = ""


RIGHT, WRONG = Comparison(True), Comparison(False)


def compare(gold: Gold, answer: str, problem: str | None = None, accept_expressions: bool = False) -> Comparison:
    """Compare an extracted answer with the gold."""
    if len(answer) > MAX_ANSWER:
        return WRONG
    text = tidy(answer)
    if not text or len(text) > MAX_ANSWER or not balanced(text):
        return WRONG
    if key(text) == gold.key:
        return RIGHT
    chosen = _choice(gold, text, problem)
    if isinstance(chosen, Comparison):
        return chosen
    gold, text = chosen
    if key(text) == gold.key:
        return RIGHT
    number = read_number(text, problem or "")
    if gold.number and gold.number.form == "decimal" and not number and DECIMAL_COMMA.match(text):
        number = read_number(text.replace(",", "."))
    if gold.number and number:
        if not accept_expressions and restated(gold, text, problem):
            return WRONG
        return RIGHT if same_number(gold.number, number) else WRONG
    if is_words(gold.text) and same_words(gold.text, text) or _means_the_same(gold.text, text):
        return RIGHT
    if gold.shape.kind == "brackets":
        text = POINT_NAME.sub("", text)
    if gold.is_equation and _NAME.match(gold.sides[0]):
        if key(text) == key(gold.sides[1]):
            return RIGHT
        parts = sides(text)
        named = len(parts) == 2 and key(parts[0]) == key(gold.sides[0])
        if named and not accept_expressions and restated(gold_of(gold.sides[1]), parts[1], problem):
            return WRONG
    value = _value(gold, text)
    if not accept_expressions and (restated(gold, value, problem) or still_to_solve(gold.text, value)):
        return WRONG
    if _LETTER.match(gold.text) and _LETTER.match(text):
        return WRONG
    return Comparison(None, gold.text, text)


def _means_the_same(gold: str, answer: str) -> bool:
    """`February 3rd` and `Feb 3`, `6th` and `sixth`."""
    found = meaning(gold)
    return found is not None and found[0] != "words" and found == meaning(answer)


def _choice(gold: Gold, text: str, problem: str | None) -> Comparison | tuple[Gold, str]:
    """Settle a choice by its letter, or put the value of an option in the place of its letter."""
    values = options(problem) if problem else {}
    letters = several(gold.text) or together(unstyled(gold.text)) & values.keys()
    if len(letters) > 1:
        return RIGHT if letters in (several(text), together(unstyled(text))) else WRONG
    (wanted, gold_value), (chosen, value) = choice(gold.text), choice(text)
    if wanted and not chosen and text.rstrip(")").upper() in values:
        chosen = text.rstrip(")").upper()  # a lone `b` is a variable, but not where b is an option
    if not (wanted or chosen):
        return gold, text
    if chosen and _is_another(value, chosen, values):
        return WRONG
    if wanted and chosen:
        return RIGHT if wanted == chosen else WRONG
    if wanted and (wanted in values or gold_value):
        try:
            return parse_gold(values.get(wanted, gold_value)), text
        except UnparsableGold:
            return gold, text
    behind = value if value[:1].isdigit() or value[:1] in "\\-$" and value else text  # `(A) 5`, but `(a)b` is a product
    return gold, values.get(chosen, behind)


def _is_another(value: str, chosen: str, values: dict[str, str]) -> bool:
    """Whether the text next to a chosen letter, `(A) 5`, is not that option."""
    if not value:
        return False
    if chosen not in values:
        return is_words(value)  # `(C) wrong`: without the options words say anything
    option = values[chosen]
    if key(option) == key(value) or same_words(option, value):
        return False
    mine, other = read_number(option), read_number(value)
    if mine and other:
        return not same_number(mine, other)
    return any(key(value) == key(one) for name, one in values.items() if name != chosen) or is_words(value)


def _value(gold: Gold, text: str) -> str:
    """The side of an equation that has the value, for the rules on answers that repeat the question."""
    exact, approximately, rounded = text.partition(r"\approx")
    if approximately:
        text = rounded.strip() if _NAME.match(exact.strip()) or not exact.strip() else exact.strip()
    parts = sides(text.replace("\\equiv", "="))
    if len(gold.sides) > 1 or len(parts) == 1 or shape(text).kind != "one":
        return text
    if len(parts) == 2 and _NAME.match(parts[1]) and not _NAME.match(parts[0]):
        return parts[0]
    return parts[-1] or text


_SIGN = re.compile(r"\\(?:leq?|geq?|lt|gt|neq?)(?![a-zA-Z])|[<>=]")
_BARE = re.compile(
    r"\A ?(?:\| ?)?((?:[a-zA-Z]|\\(?:theta|alpha|beta|gamma|lambda|mu|phi|omega))(?:_\{?\w{1,20}\}?)?)"
    r"(?: ?[+-] ?[0-9.]{1,20} ?(?=\|))?(?:\|)? ?\Z"
)
_BARE_TUPLE = re.compile(r"\A ?\([a-zA-Z](?: ?, ?[a-zA-Z]){1,9}\) ?\Z")
_BUILDER = re.compile(r"\\mid(?![a-zA-Z])|:|\|")
_VARIABLE = re.compile(r"(?<![a-zA-Z\\])[a-df-hj-zA-Z](?![a-zA-Z])")


def still_to_solve(gold: str, answer: str) -> bool:
    """Whether the gold is solved and the answer is a relation that is not, both tidied."""
    return bool(_SIGN.search(answer)) and _settled(gold) and not _solved(answer)


def _settled(gold: str) -> bool:
    """Whether the gold gives values: it has no variables but those it is solved for."""
    values = (side for sides in _relations(gold) for side in sides if len(sides) == 1 or not _BARE.match(side))
    return _solved(gold) and not any(map(_VARIABLE.search, values))


def _solved(text: str) -> bool:
    return all(len(sides) == 1 or _isolated(sides) for sides in _relations(text))


def _isolated(sides: list[str]) -> bool:
    for side in sides:
        if _BARE_TUPLE.match(side):
            return True
        name = _BARE.match(side)
        if name:
            return sum(_occurs(name[1], other) for other in sides) == 1
    return False


def _occurs(name: str, text: str) -> bool:
    """Whether a text has the variable, not as a part of a longer word or command."""
    start = text.find(name)
    while start >= 0:
        before, after = text[start - 1 : start], text[start + len(name) : start + len(name) + 1]
        if not (before.isalpha() or before == "\\" or after.isalpha()):
            return True
        start = text.find(name, start + 1)
    return False


def _relations(text: str) -> list[list[str]]:
    if text.startswith(r"\{") and text.endswith(r"\}"):
        text = _BUILDER.split(text[2:-2], maxsplit=1)[-1]
    outer = shape(text)
    return [_SIGN.split(item) for item in (outer.items if outer.kind == "list" else (text,))]
