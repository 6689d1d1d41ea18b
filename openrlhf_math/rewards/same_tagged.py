"""When a clock, a ratio, a numeral in a base, a residue or words are the same as another statement."""

from collections.abc import Callable
from fractions import Fraction

import mpmath

from openrlhf_math.rewards.evaluate import Undefined, exact, is_real, symbols, value
from openrlhf_math.rewards.kinds import Expression, Statement, Tagged
from openrlhf_math.rewards.latex import Unreadable
from openrlhf_math.rewards.measures import COUNT, Measure
from openrlhf_math.rewards.same_trees import same_trees

INFINITELY_MANY = Tagged("words", ("words", "infinitelymany"))


def same_tagged(gold: Statement, answer: Statement, same: Callable[[Statement, Statement], bool]) -> bool:
    """Whether two statements are the same of which one at least is tagged; `same` compares those within."""
    if isinstance(gold, Tagged) and isinstance(answer, Tagged):
        if gold.kind != answer.kind:
            return False
        if gold.kind == "ratio":
            return _same_ratio(gold.content, answer.content)
        if gold.kind == "residue":
            names = gold.content[2], answer.content[2]
            if gold.content[1] != answer.content[1] or all(names) and names[0] != names[1]:
                return False
            return same(gold.content[0], answer.content[0])
        if gold.kind == "clock":
            return _same_clock(gold.content, answer.content)
        if gold.kind == "words" and gold.content[0] == "date" == answer.content[0]:
            return gold.content[1:3] == answer.content[1:3] and (
                gold.content[3] == answer.content[3] or not answer.content[3]
            )
        return gold.content == answer.content
    if isinstance(gold, Tagged):
        tagged, other = gold, answer
    elif isinstance(answer, Tagged):
        tagged, other = answer, gold
    else:
        return False
    if tagged.kind == "ratio" and len(tagged.content) == 2 and isinstance(other, Expression) and not other.measure:
        quotient = ("*", (tagged.content[0], ("^", tagged.content[1], ("n", Fraction(-1)))))
        whole = exact(other.tree)
        if whole is not None and whole.denominator == 1:
            return False
        return not other.percent and same_trees(quotient, other.tree)
    if tagged.kind == "residue" and isinstance(other, Expression):
        if tagged is answer and not is_reduced(other.tree, tagged.content[1]):
            return False  # `5 \bmod 3` is a sum to be done
        return same(tagged.content[0], other)
    if gold == INFINITELY_MANY and isinstance(answer, Expression):
        return answer.tree == ("c", "oo")
    if tagged.kind == "words" and tagged.content[0] == "ordinal" and isinstance(other, Expression):
        return exact(other.tree) == tagged.content[1] and other.measure in (None, COUNT, Measure((("th", 1),)))
    if (
        tagged.kind == "clock"
        and isinstance(other, Expression)
        and _half(other.measure)
        and tagged.content[1:3] == (0, 0)
    ):
        return exact(other.tree) == tagged.content[0] and _half(other.measure) == tagged.content[3]
    if tagged.kind == "base" and isinstance(other, Expression):
        value_of = exact(other.tree)
        if value_of is None or value_of.denominator != 1 or other.measure:
            return False
        digits, base = tagged.content
        return (base == 10 or tagged is gold) and digits.isdigit() and int(digits) == value_of
    return False


def is_reduced(tree: tuple, modulus: int) -> bool:
    """Whether a number, or each of a matrix or of both signs of `\\pm`, is known to be less than the modulus."""
    if tree[0] == "m":
        return all(is_reduced(cell, modulus) for row in tree[1] for cell in row)
    if symbols(tree) - {"±"}:
        return False
    try:
        size = value(tree, {"±": mpmath.mpf(1)})
    except (Undefined, Unreadable):
        return False
    return not isinstance(size, tuple) and is_real(size) and abs(size) < modulus


def _half(measure: Measure | None) -> str:
    name = measure.dimension[0][0] if measure and len(measure.dimension) == 1 else ""
    return name if name in ("am", "pm") else "" if measure is None else "?"


def _same_clock(gold: tuple, answer: tuple) -> bool:
    one, other = _minute_of_day(gold), _minute_of_day(answer)
    if one is not None and other is not None:
        return one == other
    return gold[:3] == answer[:3]


def _minute_of_day(clock: tuple) -> tuple[int, int, int] | None:
    """Hour, minute and second from midnight; None where `4:30` does not say which half of the day is meant."""
    hour, minute, second, half = clock
    if half:
        return (hour % 12 + 12 * (half == "pm"), minute, second) if 1 <= hour <= 12 else None
    return (hour, minute, second) if hour > 12 or not hour else None


def _same_ratio(gold: tuple, answer: tuple) -> bool:
    if len(gold) != len(answer):
        return False
    firsts = gold[0], answer[0]
    return all(
        same_trees(("*", (one, firsts[1])), ("*", (other, firsts[0])))
        for one, other in zip(gold[1:], answer[1:], strict=True)
    )
