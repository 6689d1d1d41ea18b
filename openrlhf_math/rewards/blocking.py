"""Blocking keys of an answer: short texts of which two equal answers share one, so that few pairs are compared.

Each way in which the comparison can end with yes (`equivalence`, `same`) has a key here: a text in one spelling, the
meaning of words, a number near a value, the letters of an expression. Where a way is not followed, an answer has no
keys and is compared with all others.
"""

import math
from collections.abc import Iterator
from fractions import Fraction

import mpmath

from openrlhf_math.rewards.choices import choice, options, several, together
from openrlhf_math.rewards.equivalence import DECIMAL_COMMA, POINT_NAME
from openrlhf_math.rewards.evaluate import Undefined, Value, any_part, symbols, value
from openrlhf_math.rewards.kinds import Expression, Items, Relation, Statement, Tagged, Where
from openrlhf_math.rewards.latex import Unreadable
from openrlhf_math.rewards.listing import both_signs, names_something, without_names, written_out
from openrlhf_math.rewards.measured import with_bare_unit
from openrlhf_math.rewards.notation import key, unstyled
from openrlhf_math.rewards.regions import Region
from openrlhf_math.rewards.same import SPEAKS_OF_CONSTANTS
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
    chosen, beside = choice(answer)
    offered = options(problem) if problem else {}
    if several(answer) or offered and (chosen or together(unstyled(answer)) or answer.rstrip(")").upper() in offered):
        raise _Anything
    if beside or SPEAKS_OF_CONSTANTS.search(problem):
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
    if said := meaning(answer):
        yield f"meaning {said}"
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
