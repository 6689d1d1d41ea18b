"""Whether two statements of one kind are the same: values with units, percentages; clocks, ratios, bases, words."""

import re
from collections.abc import Callable
from fractions import Fraction

import mpmath

from openrlhf_math.rewards.evaluate import Undefined, any_part, exact, is_real, symbols, value
from openrlhf_math.rewards.kinds import Expression, Statement, Tagged
from openrlhf_math.rewards.latex import Unreadable
from openrlhf_math.rewards.measured import with_bare_unit
from openrlhf_math.rewards.measures import COUNT, Measure
from openrlhf_math.rewards.same_trees import same_trees

# A decimal represents a number that rounds to it if it has this many places and this many significant digits.
PLACES = 6
HALF = Fraction(1, 2)
_PLAIN_MEASURE = re.compile(r"\A-?[0-9][0-9.,]{0,40} [a-zA-Z]{2}")


def same_expression(gold: Expression, answer: Expression) -> bool:
    if _same_as_written(gold, answer):
        return True
    if gold.text and not gold.measure and (bare := _gold_with_unit(gold.text)) and _same_as_written(bare, answer):
        return True
    bare = with_bare_unit(answer.text) if answer.text and not answer.measure else None
    if bare is None:
        return False
    return _same_as_written(gold, bare) or bool(
        gold.text and (with_unit := _gold_with_unit(gold.text)) and _same_as_written(with_unit, bare)
    )


def _gold_with_unit(text: str) -> Expression | None:
    """`5 cm` as a gold: a plain number, a space and a unit of two letters or more. `5cm` is a product."""
    return with_bare_unit(text) if _PLAIN_MEASURE.match(text) else None


def _same_as_written(gold: Expression, answer: Expression) -> bool:
    if not _units_agree(gold, answer):
        return False
    if gold.percent != answer.percent:
        return _same_percent(gold, answer)
    one, other = _scaled(gold, answer), _scaled(answer, gold)
    if _same_number(gold, answer, one, other):
        return True
    if gold.degrees != answer.degrees and not (_has_pi(one) or _has_pi(other)):  # `60^\circ` is also 60
        return _same_number(gold, answer, _without_degrees(one), _without_degrees(other))
    return False


def _same_number(gold: Expression, answer: Expression, one: tuple, other: tuple) -> bool:
    if same_trees(one, other):
        return True
    if answer.decimal and (not gold.decimal or gold.decimal[0] > answer.decimal[0]):
        return rounds_to(one, answer, PLACES)
    if gold.decimal:
        return rounds_to(other, gold, PLACES)
    return False


def rounds_to(tree: tuple, decimal: Expression, places: int) -> bool:
    """Whether a number is as near to a decimal as the decimal's last digit says, and the decimal long enough."""
    if decimal.decimal is None:
        return False
    written, digits = decimal.decimal
    size = exact(_without_degrees(decimal.tree))
    if written < places or digits < places or size is None or symbols(tree) or decimal.percent:
        return False
    found = exact(tree)
    if found is not None:
        if found.denominator == 1:
            return False
        return abs(found - size) <= HALF / 10**written or digits > 15 and abs(found - size) < abs(size) / 10**15
    try:
        near = value(tree, {})
    except (Undefined, Unreadable):
        return False
    if isinstance(near, tuple) or not is_real(near):
        return False
    gap = abs(near - mpmath.mpf(size.numerator) / size.denominator)
    return gap <= mpmath.mpf(10) ** -written / 2 or digits > 15 and gap < abs(near) * mpmath.mpf(10) ** -15


def _has_pi(tree: tuple) -> bool:
    return any_part(tree, lambda part: part == ("c", "pi"))


def _without_degrees(tree: tuple) -> tuple:
    return tree[1] if tree[0] == "deg" else tree


def _units_agree(gold: Expression, answer: Expression) -> bool:
    if not gold.measure or not answer.measure:
        if gold.tree[0] == "deg" and answer.measure and answer.measure.dimension:
            return answer.measure.dimension == (("deg", 1),)
        return not (gold.percent and answer.measure or gold.measure and answer.percent)
    return gold.measure.agrees(answer.measure)


def _scaled(one: Expression, other: Expression) -> tuple:
    if not (one.measure and other.measure) or one.measure.factor == other.measure.factor:
        return one.tree
    if one.measure.factor == 180:  # a radian, in degrees
        return ("*", (one.tree, ("n", Fraction(180)), ("^", ("c", "pi"), ("n", Fraction(-1)))))
    if other.measure.factor == 180:
        return one.tree
    return ("*", (one.tree, ("n", one.measure.factor)))


def _same_percent(gold: Expression, answer: Expression) -> bool:
    """`25%` is 0.25 and 25; 25 is `25%`; 204 is not `20400%`."""
    percent, plain = (gold, answer) if gold.percent else (answer, gold)
    if plain.measure or symbols(percent.tree) or exact(percent.tree) is None:
        return False
    if same_trees(percent.tree, plain.tree):
        return True
    whole = exact(plain.tree)
    if plain is gold and (whole is None or whole.denominator == 1 and abs(whole) > 1):
        return False
    return same_trees(("*", (percent.tree, ("n", Fraction(1, 100)))), plain.tree)


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
