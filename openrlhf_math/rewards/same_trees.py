"""Whether two expressions are equal: the same variables, and values that agree to 80 digits at several points."""

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

import mpmath

from openrlhf_math.rewards.evaluate import (
    Point,
    Undefined,
    Value,
    any_part,
    chosen,
    exact,
    is_real,
    parts,
    same_value,
    symbols,
    value,
)
from openrlhf_math.rewards.latex import INVERSE, Unreadable

POINTS, TRIES = 4, 10
# Where an expression has steps, it is compared at more points.
STEPS = 80
_UNKNOWNS = frozenset(["x", "y", "z", "w", "u", "v", "t", "s", "\\theta", "\\phi"])
_WHOLE = frozenset(["i", "j", "k", "l", "m", "n", "p", "q", "r", "K", "L", "M", "N"])
_STEPS = frozenset(("floor", "ceil", "gcd", "lcm"))


def replaced(tree: tuple, old: tuple, new: tuple) -> tuple:
    if tree == old:
        return new
    kind = tree[0]
    if kind in "+*":
        return (kind, tuple(replaced(part, old, new) for part in tree[1]))
    if kind in "nsc":
        return tree
    if kind == "m":
        return (kind, tuple(tuple(replaced(cell, old, new) for cell in row) for row in tree[1]))
    start = 2 if kind in ("f", "o") else 1
    return (*tree[:start], *(replaced(part, old, new) for part in tree[start:]))


@lru_cache(maxsize=8192)
def same_trees(gold: tuple, answer: tuple) -> bool:
    """Whether two expressions have the same variables and the same values."""
    if gold == answer:
        return True
    one, other = exact(gold), exact(answer)
    if one is not None and other is not None:
        return one == other
    if _is_log(gold) != _is_log(answer) or _is_log(gold):
        based = _any_based(gold) or _any_based(answer)
        if based:
            gold, answer = _common_logs(gold), _common_logs(answer)
    answer = aligned(gold, answer)
    infinite = ("c", "oo")
    if any_part(gold, lambda part: part == infinite) or any_part(answer, lambda part: part == infinite):
        return gold == answer or ("*", (("n", Fraction(-1)), infinite)) == gold == answer
    if _ordered_product(gold) or _ordered_product(answer):
        return False
    if symbols(gold) != symbols(answer):
        return False
    stepped = any_part(gold, has_steps) or any_part(answer, has_steps)
    if (
        symbols(gold)
        and symbols(gold) <= _WHOLE
        and (stepped or any_part(gold, _alternates) and any_part(answer, _alternates))
    ):
        return _same_at_whole_numbers(gold, answer)
    return all(same_value(one, other) for one, other in values_at_points(gold, answer, STEPS if stepped else POINTS))


def _is_log(tree: tuple) -> bool:
    return any_part(tree, lambda part: part[:2] == ("f", "log"))


def _any_based(tree: tuple) -> bool:
    return any_part(tree, lambda part: part[:2] == ("f", "logb") and part[3] == ("n", Fraction(10)))


def _common_logs(tree: tuple) -> tuple:
    kind = tree[0]
    if tree[:2] == ("f", "log"):
        return ("f", "logb", _common_logs(tree[2]), ("n", Fraction(10)))
    if kind in "+*":
        return (kind, tuple(map(_common_logs, tree[1])))
    if kind in "nsc" or kind == "m":
        return tree
    start = 2 if kind in ("f", "o") else 1
    return (*tree[:start], *map(_common_logs, tree[start:]))


def aligned(gold: tuple, answer: tuple) -> tuple:
    """The answer with `y'` and `\\dot y` written as the gold writes that derivative, if the gold has only one."""
    for name in symbols(answer) - symbols(gold):
        marks = len(name) - len(name.rstrip("'"))
        if marks:
            of = name.rstrip("'")
            same = [one for one in symbols(gold) if one.startswith(f"Dd{marks}:{of}:")]
            if len(same) == 1:
                answer = replaced(answer, ("s", name), ("s", same[0]))
        elif name.startswith("Dd"):
            _, of, _ = name.split(":")
            dashed = of + "'" * int(name[2])
            if dashed in symbols(gold):
                answer = replaced(answer, ("s", name), ("s", dashed))
    return answer


def _ordered_product(tree: tuple) -> bool:
    """Whether a product has inverses or transposes of capital letters, as of matrices: their order matters."""
    if tree[0] != "*":
        return any(map(_ordered_product, parts(tree)))
    capitals = [part for part in _factors(tree) if part[0] == "s" and part[1][:1].isupper()]
    turned = [
        part for part in _factors(tree)
        if part[0] == "^" and part[1][0] == "s" and part[1][1][:1].isupper()
        and part[2] in (INVERSE, ("s", "T"), ("s", "t"))
    ]  # fmt: skip
    return bool(turned) and len(turned) + len(capitals) > 1


def _factors(tree: tuple) -> list:
    if tree[0] != "*":
        return [tree]
    return [factor for part in tree[1] for factor in _factors(part)]


def values_at_points(gold: tuple, answer: tuple, count: int = POINTS) -> Iterator[tuple[Value, Value]]:
    """The values of two trees at points where both have one. Raises Unreadable if there are too few."""
    names = sorted(symbols(gold) | symbols(answer))
    positive = (under_roots(gold) | under_roots(answer)) - _UNKNOWNS
    complex_ = any_part(gold, _imaginary) or any_part(answer, _imaginary)
    wanted = count if names else 1
    for turn in range(count + TRIES if names else 1):
        point = {name: _coordinate(name, turn, name in positive) for name in names}
        try:
            one, other = value(gold, point), value(answer, point)
        except Undefined:
            continue
        if names and not complex_ and not (is_real(one) and is_real(other)):
            continue
        yield one, other
        wanted -= 1
        if not wanted:
            return
    if wanted == (count if names else 1) or names and wanted > count // 2:
        raise Unreadable("no point where both have a value")


def _imaginary(part: tuple) -> bool:
    return part == ("c", "i")


def _coordinate(name: str, turn: int, positive: bool) -> mpmath.mpf:
    size = chosen(name, turn) * (1 if turn % 3 else 3) * (1 + turn // 8)
    sign = -1 if not positive and turn and (turn == 1 or chosen(name + "-", turn) < mpmath.mpf("1.4")) else 1
    return sign * size


def under_roots(tree: tuple) -> frozenset[str]:
    """The variables under square roots and logarithms, which are lengths and the like."""
    kind = tree[0]
    inside: frozenset[str] = frozenset()
    if kind == "root" or tree[:2] in (("f", "ln"), ("f", "log"), ("f", "logb")):
        inside = symbols(tree)
    elif kind == "^":
        power = exact(tree[2])
        if power is None or power.denominator % 2 == 0 or power.denominator != 1:
            inside = symbols(tree[1])
    return inside.union(*map(under_roots, parts(tree)))


def _same_at_whole_numbers(gold: tuple, answer: tuple) -> bool:
    """Steps and signs, `\\lfloor n/2 \\rfloor` and `(-1)^n`, are compared at whole numbers if that is what n is."""
    names = sorted(symbols(gold) | symbols(answer))
    if len(names) > 2:
        return False
    if len(names) == 1:
        places = [{names[0]: mpmath.mpf(n)} for n in [*range(1, 130), 144, 169, 256, 512, 1000, 1023, 1024, 1025]]
    else:
        places = [{names[0]: mpmath.mpf(a), names[1]: mpmath.mpf(b)} for a in range(1, 14) for b in range(1, 14)]
    compared = 0
    for point in places:
        found = [_real_value(tree, point) for tree in (gold, answer)]
        if (found[0] is None) != (found[1] is None):
            return False
        if found[0] is not None:
            compared += 1
            if not same_value(*found):
                return False
    return compared > len(places) // 2


def _real_value(tree: tuple, point: Point) -> Value | None:
    try:
        found = value(tree, point)
    except Undefined:
        return None
    return found if is_real(found) else None


def has_steps(part: tuple) -> bool:
    return part[0] == "f" and part[1] in _STEPS


def _alternates(part: tuple) -> bool:
    """`(-1)^n`, `\\cos n\\pi`."""
    if part[:2] in (("f", "cos"), ("f", "sin")):
        return any_part(part, lambda one: one == ("c", "pi"))
    return part[0] == "^" and exact(part[1]) == -1
