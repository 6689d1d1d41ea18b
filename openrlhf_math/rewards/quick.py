r"""Step 3a, the fast path: decide without symbolic work, or say that it cannot.

Right are answers that are the same text after normalisation, or equal as exact rationals; wrong are numbers that
differ. Sets, lists and tuples are compared item by item. Where a decimal stands for a number it only comes close to
(`0.333333` for `1/3`) math-verify decides, so that there is one rounding rule.
"""

from fractions import Fraction

from openrlhf_math.rewards.gold import Gold, gold_of
from openrlhf_math.rewards.notation import key
from openrlhf_math.rewards.number import Number, read_number
from openrlhf_math.rewards.shape import shape, sides

# math-verify rounds decimals to six places; nearer than this the two may or may not be equal to it.
NEAR = Fraction(2, 10**6)


def quick(gold: Gold, answer: str) -> bool | None:
    """Whether the tidied answer equals the gold; None if only symbolic work can tell."""
    if key(answer) == gold.key:
        return True
    number = read_number(answer)
    if gold.number and number:
        return same_number(gold.number, number)
    return _same_shape(gold, answer, number)


def same_number(gold: Number, answer: Number) -> bool | None:
    r"""Compare two values exactly, units aside. `50\%` equals both `0.5` and `50`: questions ask for it either way."""
    if gold.percent == answer.percent:
        return _equal(gold.value, answer.value, "decimal" in (gold.form, answer.form))
    if gold.value < 0 and answer.value < 0:
        return None  # math-verify reads a negative percentage in its own way
    if gold.value == answer.value:
        return True if gold.form == answer.form == "integer" else None
    parts = [number.value / 100 if number.percent else number.value for number in (gold, answer)]
    return _equal(*parts, inexact=True)


def _equal(gold: Fraction, answer: Fraction, inexact: bool) -> bool | None:
    if gold == answer:
        return True
    return None if inexact and abs(gold - answer) <= NEAR else False


def _same_shape(gold: Gold, answer: str, number: Number | None) -> bool | None:
    answer_shape, gold_shape = shape(answer), gold.shape
    kinds = (gold_shape.kind, answer_shape.kind)
    if kinds == ("one", "one"):
        return None
    if gold.number:  # several candidates are no answer; the same one several times is
        values = [read_number(item) for item in answer_shape.items]
        return all(value and same_number(gold.number, value) for value in values)
    if number:
        return False if len(set(gold_shape.items)) > 1 else None
    if kinds == ("brackets", "brackets"):
        if gold_shape.brackets != answer_shape.brackets or len(gold_shape.items) != len(answer_shape.items):
            return False
        return _all_same(gold_shape.items, answer_shape.items)
    if set(kinds) == {"set", "brackets"}:
        return False
    if kinds == ("brackets", "list"):
        named = _by_name(answer_shape.items)
        return _all_same(gold_shape.items, named) if len(named) == len(gold_shape.items) else None
    if kinds == ("list", "brackets") and answer_shape.brackets == "()":  # whoever writes them means an order
        same_length = len(answer_shape.items) == len(gold_shape.items)
        return _all_same(gold_shape.items, answer_shape.items) if same_length else False
    if set(kinds) <= {"set", "list"}:
        return _same_items(gold_shape.items, answer_shape.items)
    return None


def _by_name(items: tuple[str, ...]) -> tuple[str, ...]:
    """`b = 2, a = 1` -> `1`, `2`: values in the order of their names, as in (a, b); nothing if some have no name."""
    parts = [sides(item) for item in items]
    if not all(len(part) == 2 and len(part[0]) == 1 for part in parts) or len({part[0] for part in parts}) < len(parts):
        return ()
    return tuple(value for _, value in sorted(parts))


def _all_same(golds: tuple[str, ...], answers: tuple[str, ...]) -> bool | None:
    verdicts = [quick(gold_of(gold), answer) for gold, answer in zip(golds, answers, strict=True)]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _same_items(golds: tuple[str, ...], answers: tuple[str, ...]) -> bool | None:
    """Compare as sets, if every item is an exact number or they are the same texts."""
    if {key(item) for item in golds} == {key(item) for item in answers}:
        return True
    numbers = [[read_number(item) for item in items] for items in (golds, answers)]
    if not all(number and not number.percent and not number.unit for side in numbers for number in side):
        return None
    gold_values, answer_values = ({number.value for number in side} for side in numbers)
    if gold_values == answer_values:
        return True
    return None if any(number.form == "decimal" for side in numbers for number in side) else False
