"""Whether two values are the same with their units, percentages, degrees and decimals."""

import re
from fractions import Fraction

import mpmath

from openrlhf_math.rewards.evaluate import Undefined, any_part, exact, is_real, symbols, value
from openrlhf_math.rewards.kinds import Expression
from openrlhf_math.rewards.latex import Unreadable
from openrlhf_math.rewards.measured import with_bare_unit
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
        if one.measure and one.measure.factor == 180 and other.degrees:
            return one.tree
        return one.tree
    if one.measure.factor == 180 or other.measure.factor == 180:
        return (
            ("*", (one.tree, ("n", Fraction(180)), ("^", ("c", "pi"), ("n", Fraction(-1)))))
            if one.measure.factor == 180
            else one.tree
        )
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
