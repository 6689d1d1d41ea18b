r"""Step 3a, the fast path: two numbers as they are written, compared exactly.

A decimal is the number its digits say. It also stands for another number that rounds to it, if it has at least six
places and six significant digits: `0.333333` for `1/3`, not `0.333`.
"""

from fractions import Fraction

from openrlhf_math.rewards.measures import Measure
from openrlhf_math.rewards.number import Number

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
