r"""Step 3: is the answer the gold answer? Everything that can be said without symbolic work.

`compare` puts the parts together: multiple choice, equations, restated questions, then the fast path. What it
leaves open, a worker process decides with math-verify (see `symbolic.py`).
"""

import re
from dataclasses import dataclass

from openrlhf_math.rewards.choices import choice, options, several
from openrlhf_math.rewards.gold import Gold, UnparsableGold, gold_of, parse_gold
from openrlhf_math.rewards.misread import misread, qualified
from openrlhf_math.rewards.notation import MAX_ANSWER, balanced, key, tidy
from openrlhf_math.rewards.number import read_number
from openrlhf_math.rewards.quick import quick, same_number
from openrlhf_math.rewards.restated import restated
from openrlhf_math.rewards.shape import shape, sides
from openrlhf_math.rewards.solved import still_to_solve
from openrlhf_math.rewards.units import measured

_NAME = re.compile(
    r"\A(?:\\(?:t(?:ext|riangle|heta)|m(?:ath(?:rm|bf)|u)|a(?:ngle|lpha)|overline|vec|hat|frac|beta|lambda)\b"
    r"|\^\{-1\}|[A-Za-z'_{}0-9()|, :])+\Z"
)
_MODULUS = re.compile(r" ?\(?\\p?mod ?(?:\{[^{}]{0,40}\}|\d{1,40})\)?\Z| ?\(mod ?\d{1,40}\)\Z")
_NOT_CONSTANT = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])|[(\[]|\\(?:cup|infty|mathbb)")
_POINT_NAME = re.compile(r"\A[A-Z]'? ?(?=[(\[])")


@dataclass(frozen=True, slots=True)
class Comparison:
    """`same` is the verdict; None if symbolic work on `gold` and `answer`, both tidied LaTeX, has to find it."""

    same: bool | None
    gold: str = ""
    answer: str = ""


RIGHT, WRONG = Comparison(True), Comparison(False)


def compare(gold: Gold, answer: str, problem: str | None = None, accept_expressions: bool = False) -> Comparison:
    """Compare an extracted answer with the gold."""
    if len(answer) > MAX_ANSWER:
        return WRONG
    text = tidy(answer)
    if not text or not balanced(text):
        return WRONG
    if key(text) == gold.key:
        return RIGHT
    chosen = _choice(gold, text, problem)
    if isinstance(chosen, Comparison):
        return chosen
    gold, text = _without_names(*chosen)
    if key(text) == gold.key:
        return RIGHT
    same = misread(gold, text)
    if same is not None:
        return Comparison(same)
    value = _value_of_equation(gold, text)
    if value is None:
        return WRONG
    if not accept_expressions and (restated(gold, value, problem) or still_to_solve(gold.text, value)):
        return WRONG
    same = quick(gold, value)
    if same is None and qualified(gold, value):
        return WRONG
    return Comparison(same, measured(gold.text)[0], measured(value)[0])


def _choice(gold: Gold, text: str, problem: str | None) -> Comparison | tuple[Gold, str]:
    """Settle a choice by its letter, or put the value of an option in the place of its letter."""
    if several(gold.text):
        return RIGHT if several(gold.text) == several(text) else WRONG
    (wanted, _), (chosen, value) = choice(gold.text), choice(text)
    if not (wanted or chosen):
        return gold, text
    values = options(problem) if problem else {}
    if chosen and _is_another(value, chosen, values):
        return WRONG
    if wanted and chosen:
        return RIGHT if wanted == chosen else WRONG
    if wanted and wanted in values:
        try:
            return parse_gold(values[wanted]), text
        except UnparsableGold:
            return gold, text
    beside = value if value[:1].isdigit() or value[:1] == "\\" else text  # `(A) 5`, but `(a)b` is a product
    return gold, values.get(chosen, beside)


def _is_another(value: str, chosen: str, values: dict[str, str]) -> bool:
    """Whether the value beside a chosen letter, `(A) 5`, contradicts it: it is that of another option."""
    if not value or chosen not in values or quick(gold_of(values[chosen]), value):
        return False
    mine, other = read_number(values[chosen]), read_number(value)
    if mine and other and same_number(mine, other) is False:
        return True
    return any(quick(gold_of(option), value) for name, option in values.items() if name != chosen)


def _without_names(gold: Gold, text: str) -> tuple[Gold, str]:
    r"""Drop what only names the answer: `P(1,2)`, `3 \pmod{7}`, and `y =` where both have it or only the gold."""
    if gold.shape.kind == "brackets":
        text = _POINT_NAME.sub("", text)
    if gold.number:
        text = _MODULUS.sub("", text)
    exact, approximately, rounded = text.partition(r"\approx")
    if approximately and not _far(exact, rounded):
        text = rounded.strip() if not exact.strip() or _is_name(exact) else exact.strip()
    if gold.is_equation and _is_name(gold.sides[0]):
        parts = sides(text)
        if len(parts) == 2 and shape(text).kind == "one" and key(gold.sides[0]) in map(key, parts):
            text = parts[key(parts[0]) == key(gold.sides[0])]  # the side that is not the name
        if len(sides(text)) == 1:
            gold = gold_of(gold.sides[1])
    return gold, text


def _far(exact: str, rounded: str) -> bool:
    r"""Whether `5 \approx 7` rounds one number to quite another."""
    numbers = [read_number(side.strip()) for side in (exact, rounded)]
    return all(numbers) and abs(numbers[0].value - numbers[1].value) > abs(numbers[0].value) / 10


def _is_name(text: str) -> bool:
    r"""`x`, `f(x)`, `\angle ABC`, `\text{Area}`, `\frac{dy}{dx}`: says what the value is of, and is no value."""
    return bool(_NAME.match(text)) and read_number(text.strip()) is None


def _value_of_equation(gold: Gold, text: str) -> str | None:
    r"""`x = 5` and `2+3 = 5` -> `5` where the gold is no equation; None if the sides contradict each other."""
    parts = sides(text)
    if len(parts) == 1 or shape(text).kind != "one":
        return None if gold.is_equation and len(parts) == 1 else text
    if not all(parts):
        rest = text.strip(" =")  # `= 5`
        return rest if len(sides(rest)) == 1 else None
    values = [(part, number) for part in parts if (number := read_number(part))]
    if any(same_number(values[0][1], number) is False for _, number in values[1:]):
        return None
    if len(gold.sides) > 1:
        return text
    if values and not gold.number and _NOT_CONSTANT.search(parts[-1]):
        return None  # `7 = x+1`, `7 = (1,2)`
    if gold.number and values:  # all the same number, perhaps as a percentage once
        return next((part for part, number in values if same_number(gold.number, number)), values[-1][0])
    return parts[-1]
