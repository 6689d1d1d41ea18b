"""A short text for an answer, so that many answers are distinguished without comparing each pair."""

import re

import mpmath

from openrlhf_math.rewards.evaluate import (
    SAME_PART,
    MpNumber,
    Undefined,
    any_part,
    chosen,
    exact,
    is_real,
    same_value,
    symbols,
    value,
)
from openrlhf_math.rewards.kinds import Expression, Items, Relation, Statement
from openrlhf_math.rewards.latex import Unreadable
from openrlhf_math.rewards.measured import with_bare_unit
from openrlhf_math.rewards.regions import Region, points
from openrlhf_math.rewards.same import SPEAKS_OF_CONSTANTS
from openrlhf_math.rewards.same_trees import has_steps, under_roots
from openrlhf_math.rewards.statement import read

# Kinds of answers: of two kinds nothing is said, for `x = 5` may count for 5, and `\{5\}` too.
VALUE, EQUATION, ITEMS, NAMED, REGION = "value", "equation", "items", "named", "region"
DIGITS = 60
CANCELLED = mpmath.mpf(10) ** -15  # sides of an equation that differ by less have too few digits in their difference
_CONSTANT = re.compile("[cC]")
_LETTER = re.compile(r"\A[a-zA-Z]\Z")


def fingerprint(answer: str, problem: str = "") -> str:
    """A text that differs for two answers of one kind only if they are different; "" if that cannot be said.

    Its first word is the kind. It has the values of exact expressions without a unit at fixed points, to 60 digits; of
    an equation the ratio of its sides' difference at two points, which no factor changes; of a region its ends.
    """
    try:
        statement = read(answer, problem)
        found = _fingerprint(statement)
        if found and SPEAKS_OF_CONSTANTS.search(problem) and _CONSTANT.search(answer):
            return ""  # `c` and `C` may be one constant
        return found
    except (Unreadable, Undefined, RecursionError):
        return ""


def _fingerprint(statement: Statement) -> str:
    if isinstance(statement, Relation):
        return _labelled(EQUATION, _equation(statement))
    if isinstance(statement, Region):
        return _labelled(REGION, _region(statement))
    if isinstance(statement, Items) and statement.kind != "tuple":
        if (numbers := _real_numbers(statement)) is not None:
            return _labelled(REGION, _region(points(numbers)))
        if named := _named(statement):
            return _labelled(NAMED, named)
        found = {_value(item, letters=True) for item in statement.items}
        return _labelled(ITEMS, "" if "" in found else str(sorted(found)))
    return _labelled(VALUE, _value(statement))


def _labelled(kind: str, found: str) -> str:
    return f"{kind} {found}" if found else ""


def _value(statement: Statement, letters: bool = False) -> str:
    """Of an expression, or a tuple of such. letters: whether it may be a letter, which alone may choose an option."""
    if isinstance(statement, Items) and statement.kind == "tuple":
        found = [_value(item) for item in statement.items]
        return f"{statement.brackets}{found}" if all(found) else ""
    if not isinstance(statement, Expression) or not (letters and _is_letter(statement) or _plain_value(statement)):
        return ""
    names = sorted(symbols(statement.tree))
    if names and (under_roots(statement.tree) or any_part(statement.tree, has_steps)):
        return ""
    values = [value(statement.tree, {name: chosen(name, turn) for name in names}) for turn in (0, 1)]
    if any(isinstance(one, tuple) for one in values):
        return ""
    return f"{names} {' '.join(map(_digits, values))}"


def _named(items: Items) -> str:
    """Of `x = 1, y = 2`: the values under different letters."""
    values: dict[str, str] = {}
    for item in items.items:
        if not isinstance(item, Relation) or item.signs != ("=",) or not _LETTER.match(item.texts[0]):
            return ""
        values[item.texts[0]] = _value(read(item.texts[1]))
    return str(sorted(values.items())) if len(values) == len(items.items) and all(values.values()) else ""


def _equation(relation: Relation) -> str:
    """Of an equation whose sides have plain values, with a letter for the name if it names one."""
    if relation.signs != ("=",) or any(":" in side or "'" in side for side in relation.texts):
        return ""
    sides = [read(side) for side in relation.texts]
    trees = [side.tree for side in sides if isinstance(side, Expression) and (_is_letter(side) or _plain_value(side))]
    names = sorted(frozenset().union(*map(symbols, trees)))
    if len(trees) != 2 or not names or any(len(name) > 1 for name in names):
        return ""
    if any(under_roots(tree) or any_part(tree, has_steps) for tree in trees):
        return ""
    differences = []
    for turn in (0, 1):
        left, right = (value(tree, {name: chosen(name, turn) for name in names}) for tree in trees)
        if isinstance(left, tuple) or isinstance(right, tuple):
            return ""
        difference = left - right
        if abs(difference) <= CANCELLED * max(abs(left), abs(right)):
            return ""
        differences.append(difference)
    return f"{names} {_digits(differences[0] / differences[1])}"


def _digits(number: MpNumber) -> str:
    r"""The digits of a number; a part that is only an error of rounding, as of `e^{i\pi}`, is left out."""
    real, imaginary = (
        mpmath.mpf(0) if abs(one) <= SAME_PART * abs(number) else one for one in (mpmath.re(number), mpmath.im(number))
    )
    return mpmath.nstr(mpmath.mpc(real, imaginary) if imaginary else real, DIGITS)


def _is_letter(statement: Expression) -> bool:
    return (
        statement.tree[0] == "s" and len(statement.tree[1]) == 1 and not statement.measure and statement.tree[1] != "±"
    )


def _real_numbers(items: Items) -> list[MpNumber] | None:
    """The values of a list or set of real numbers; None for any other."""
    found = []
    for item in items.items:
        if not isinstance(item, Expression) or not _plain_value(item) or symbols(item.tree):
            return None
        one = value(item.tree, {})
        if isinstance(one, tuple) or not is_real(one):
            return None
        found.append(mpmath.re(one))
    return found


def _region(region: Region) -> str:
    """Where it changes: whether it begins with numbers, and for each end whether that and what is behind is in it."""
    ends: list[MpNumber] = []
    for end in sorted(region.ends):
        if not ends or not same_value(end, ends[-1]):  # `\{1, 1\}` has one
            ends.append(end)
    if not ends:
        return f"all {region.contains(mpmath.mpf(0))}"
    between = [(low + high) / 2 for low, high in zip(ends, ends[1:], strict=False)]
    behind = [region.contains(one) for one in (ends[0] - 1, *between, ends[-1] + 1)]
    at = [region.contains(end) for end in ends]
    changes = [
        f"{mpmath.nstr(end, DIGITS)} {at[place]} {behind[place + 1]}"
        for place, end in enumerate(ends)
        if not behind[place] == at[place] == behind[place + 1]
    ]
    return f"{behind[0]} {changes}"


def _plain_value(statement: Expression) -> bool:
    """Whether a value can only be read in one way: no unit, percentage, angle, decimal, sign to choose or letter."""
    if statement.measure or statement.percent or statement.degrees or statement.decimal:
        return False
    if statement.tree[0] == "s" or "±" in symbols(statement.tree) or with_bare_unit(statement.text):
        return False
    return not any_part(statement.tree, _ambiguous)


def _ambiguous(part: tuple) -> bool:
    return part[:2] == ("f", "log") or part == ("c", "oo") or part[0] == "^" and exact(part[1]) == -1 or part[0] == "o"
