"""Short texts for an answer: fingerprints and blocking keys, so that few pairs of many answers are compared.

Each way in which the comparison can end with yes (`equivalence`, `same`) has a blocking key: a text in one spelling,
the meaning of words, a number near a value, the letters of an expression. Where a way is not followed, an answer has no
keys and is compared with all others.
"""

import math
import re
from collections.abc import Iterator
from fractions import Fraction

import mpmath

from openrlhf_math.rewards.choices import choice, options, several, together
from openrlhf_math.rewards.equivalence import DECIMAL_COMMA, POINT_NAME
from openrlhf_math.rewards.evaluate import (
    SAME_PART,
    MpNumber,
    Undefined,
    Value,
    any_part,
    chosen,
    exact,
    is_real,
    same_value,
    symbols,
    value,
)
from openrlhf_math.rewards.kinds import Expression, Items, Relation, Statement, Tagged, Where
from openrlhf_math.rewards.latex import Unreadable
from openrlhf_math.rewards.listing import both_signs, names_something, without_names, written_out
from openrlhf_math.rewards.measured import with_bare_unit
from openrlhf_math.rewards.notation import key, unstyled
from openrlhf_math.rewards.regions import Region, points
from openrlhf_math.rewards.same import SPEAKS_OF_CONSTANTS
from openrlhf_math.rewards.same_trees import has_steps, under_roots
from openrlhf_math.rewards.shape import sides
from openrlhf_math.rewards.statement import read
from openrlhf_math.rewards.tokens import is_grouped
from openrlhf_math.rewards.words import letters, meaning

# Values nearer than this share a key. The comparison takes a decimal for what rounds to it in six places.
CELL = 1e-4
NEAR = 2e-6
LARGE = 1e6  # above, nearness is relative


class _Anything(Exception):
    """The answer may be the same as one of any kind."""


def blocking_keys(answer: str, problem: str = "") -> list[str]:
    """Keys of a tidied answer: two answers are the same only if they share a key or one of them has none."""
    try:
        return sorted(set(_keys(answer, problem)))
    except (_Anything, Unreadable, Undefined, RecursionError):
        return []


def _keys(answer: str, problem: str) -> Iterator[str]:
    chosen, behind = choice(answer)
    offered = options(problem) if problem else {}
    if several(answer) or offered and (chosen or together(unstyled(answer)) or answer.rstrip(")").upper() in offered):
        raise _Anything
    if behind or SPEAKS_OF_CONSTANTS.search(problem):
        raise _Anything
    if DECIMAL_COMMA.match(answer):
        yield from _near(mpmath.mpf(answer.replace(",", ".")))
    if is_grouped(answer):
        yield from _of(read(answer.replace(",", ", "), problem))
    if chosen:
        yield f"choice {chosen}"
    yield f"text {key(answer)}"
    if len(parts := sides(answer)) == 2:
        yield f"text {key(parts[1])}"
    if spelled := letters(answer):
        yield f"letters {spelled}"
    if parsed := meaning(answer):
        yield f"meaning {parsed}"
    bare = POINT_NAME.sub("", answer)
    values = [one for text in {answer, bare} for one in _of(read(text, problem))]
    if not values:
        raise _Anything
    yield from values


def _of(statement: Statement) -> Iterator[str]:
    if isinstance(statement, Expression):
        for one in both_signs(statement):
            assert isinstance(one, Expression)
            yield from _of_expression(one)
    elif isinstance(statement, Relation):
        yield "relation"
        for place, side in enumerate(statement.texts):
            if place or not names_something(side):
                yield from _of_side(side)
    elif isinstance(statement, Items):
        for item in statement.items if statement.kind == "tuple" else without_names(written_out(statement)):
            yield from _of(item)
        if any(isinstance(item, Relation) for item in statement.items):
            yield "relation"
    elif isinstance(statement, Region):
        for end in statement.ends:
            if mpmath.isfinite(end):
                yield from _near(end)
    elif isinstance(statement, Where):
        yield "where"
        yield from _of(statement.main)
    elif isinstance(statement, Tagged):
        yield from _of_tagged(statement)
    else:
        raise _Anything


def _of_side(text: str) -> Iterator[str]:
    try:
        side = read(text)
    except Unreadable:
        return
    yield from _of(side)


def _of_expression(expression: Expression) -> Iterator[str]:
    tree = expression.tree
    if any_part(tree, lambda part: part[0] == "o" or part[:2] == ("f", "log")):
        raise _Anything
    if expression.text and not expression.measure and (bare := with_bare_unit(expression.text)):
        yield from _of_expression(Expression(bare.tree, bare.measure))
    if expression.measure:
        yield "measure"
    if names := symbols(tree):
        if any_part(tree, lambda part: part[0] == "m") or any("'" in name or name.startswith("Dd") for name in names):
            raise _Anything
        yield f"in {sorted(names)}"
        return
    yield from _near(value(tree, {}))
    if tree[0] == "deg":
        yield from _near(value(tree[1], {}))
    if expression.percent:
        yield from _near(value(tree, {}) / 100)


def _of_tagged(tagged: Tagged) -> Iterator[str]:
    yield tagged.kind
    if tagged.kind == "words":
        if tagged.content[0] == "ordinal":
            yield from _near(mpmath.mpf(tagged.content[1]))
        elif tagged.content[0] not in ("words", "date") or tagged.content[1] == "infinitelymany":
            raise _Anything
    elif tagged.kind == "clock":
        yield from _near(mpmath.mpf(tagged.content[0]))
    elif tagged.kind == "residue":
        yield from _of(tagged.content[0])
    elif tagged.kind == "base":
        if tagged.content[0].isdigit():
            yield from _near(mpmath.mpf(tagged.content[0]))
    elif tagged.kind == "ratio":
        if len(tagged.content) == 2:
            first, second = tagged.content
            yield from _of_expression(Expression(("*", (first, ("^", second, ("n", Fraction(-1)))))))
    else:
        raise _Anything


def _near(number: Value) -> Iterator[str]:
    """Keys that a number shares with all that are as near as rounding goes; of a matrix those of its cells."""
    if isinstance(number, tuple):
        for row in number:
            for cell in row:
                yield from _near(cell)
        return
    size = abs(number)
    if size > LARGE:
        place = float(mpmath.log(size)) * 1e3
        low, high, kind = math.floor(place - NEAR / CELL), math.floor(place + NEAR / CELL), "about e"
    else:
        place = float(size) / CELL
        low, high, kind = math.floor(place - NEAR / CELL), math.floor(place + NEAR / CELL), "about"
    yield f"{kind} {low}"
    if high != low:
        yield f"{kind} {high}"
    if LARGE * 0.999 < size < LARGE * 1.001:
        yield "about the limit"


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
