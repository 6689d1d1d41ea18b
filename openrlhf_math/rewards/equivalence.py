r"""Step 3: is the answer the gold answer? Everything that can be said without symbolic work.

`compare` puts the parts together: multiple choice, equations, restated questions, then the fast path. What it
leaves open, a worker process decides with math-verify (see `symbolic.py`).
"""

import re
from dataclasses import dataclass

from openrlhf_math.rewards.choices import letter, options
from openrlhf_math.rewards.gold import Gold, UnparsableGold, parse_gold
from openrlhf_math.rewards.notation import MAX_ANSWER, balanced, key, tidy
from openrlhf_math.rewards.number import read_number
from openrlhf_math.rewards.quick import quick, same_number
from openrlhf_math.rewards.restated import restated
from openrlhf_math.rewards.shape import shape, sides

_NAME = re.compile(r"(?:\\(?:text|mathrm|mathbf|angle|overline|triangle|vec|hat|frac)\b|[A-Za-z'_{}0-9()|,\\ ^:~])+\Z")


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
    gold, text = chosen
    value = _value_of_equation(gold, text)
    if value is None:
        return WRONG
    if not accept_expressions and restated(gold, value, problem):
        return WRONG
    return Comparison(quick(gold, value), gold.text, value)


def _choice(gold: Gold, text: str, problem: str | None) -> Comparison | tuple[Gold, str]:
    """Settle a choice by its letter, or put the value of an option in the place of its letter."""
    wanted, chosen = letter(gold.text), letter(text)
    if wanted and chosen:
        return RIGHT if wanted == chosen else WRONG
    if not (wanted or chosen) or not problem:
        return gold, text
    values = options(problem)
    if wanted and wanted in values:
        try:
            return parse_gold(values[wanted]), text
        except UnparsableGold:
            return gold, text
    return gold, values.get(chosen, text) if chosen else text


def _value_of_equation(gold: Gold, text: str) -> str | None:
    r"""`x = 5` and `2+3 = 5` -> `5` where the gold is no equation; None if the sides contradict each other."""
    parts = sides(text)
    if len(parts) == 1 or shape(text).kind != "one":
        wants_equation = len(sides(gold.text)) == 2 and not _NAME.match(sides(gold.text)[0])
        return None if wants_equation and len(parts) == 1 and shape(gold.text).kind == "one" else text
    if not all(parts):
        return text.strip(" =") if len(sides(text.strip(" ="))) == 1 else None
    numbers = [number for number in map(read_number, parts) if number]
    if any(same_number(numbers[0], number) is False for number in numbers[1:]):
        return None
    if len(sides(gold.text)) > 1:
        return text
    if len(parts) == 2 and read_number(parts[0]) and not numbers[1:]:
        return parts[0]  # `5 = x`
    return parts[-1]
