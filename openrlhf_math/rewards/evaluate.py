"""The value of an expression tree: exact where it is a rational number, else 120 digits at points chosen by hash.

A sum that cancels to less than 1e-100 of its terms is zero. Values are the same if they differ by less than 1e-80 of
themselves, so tiny numbers are distinguished as well as large ones.
"""

import hashlib
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import comb, factorial, gcd, lcm
from typing import Any, TypeAlias

import mpmath
from mpmath import mp

from openrlhf_math.rewards.latex import Unreadable

DIGITS = 120
mp.dps = DIGITS
ZERO_PART, SAME_PART = mpmath.mpf(10) ** -100, mpmath.mpf(10) ** -80
# Exact numbers have at most this many bits; beyond it a power is not an answer that anyone reads.
MAX_BITS = 100_000
MAX_EXPONENT = 1 << 40
# mpmath has no types. A number is an mpf or an mpc; a value is a number, or a matrix as a tuple of rows.
MpNumber: TypeAlias = Any
Value: TypeAlias = Any
Point: TypeAlias = dict[str, MpNumber]


class Undefined(ArithmeticError):
    """The expression has no value at this point: a pole, infinity, or a logarithm of zero."""


@lru_cache(maxsize=4096)
def exact(tree: tuple) -> Fraction | None:
    """The value of a tree that is a rational number in rational steps; None for others, and for huge ones."""
    kind = tree[0]
    if kind == "n":
        return tree[1]
    if kind in "+*":
        total, *others = [exact(part) for part in tree[1]]
        for other in others:
            if total is None or other is None:
                return None
            total = total + other if kind == "+" else total * other
            if total.numerator.bit_length() + total.denominator.bit_length() > MAX_BITS:
                return None
        return total
    if kind == "^":
        base, power = exact(tree[1]), exact(tree[2])
        if base is None or power is None or power.denominator != 1 or not base and power < 0:
            return None
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        return base ** int(power) if bits * abs(power) <= MAX_BITS else None
    if kind == "root":
        return _exact_root(exact(tree[1]), exact(tree[2]))
    if kind == "f":
        values = [value for part in tree[2:] if (value := exact(part)) is not None]
        return _exact_function(tree[1], values) if len(values) == len(tree) - 2 else None
    return None


def _exact_root(value: Fraction | None, degree: Fraction | None) -> Fraction | None:
    if value is None or degree is None or value < 0 or degree.denominator != 1 or not 2 <= degree <= 64:
        return None
    roots = []
    for part in (value.numerator, value.denominator):
        if part.bit_length() > 4000:
            return None
        with mp.workprec(part.bit_length() + 64):
            root = int(mpmath.nint(mpmath.root(part, int(degree))))
        if root ** int(degree) != part:
            return None
        roots.append(root)
    return Fraction(*roots)


def _exact_function(name: str, values: list[Fraction]) -> Fraction | None:
    first = values[0]
    if name == "abs":
        return abs(first)
    if name == "floor":
        return Fraction(first // 1)
    if name == "ceil":
        return Fraction(-(-first // 1))
    if name in ("max", "min"):
        return (max if name == "max" else min)(values)
    if any(value.denominator != 1 for value in values):
        return None
    whole = [int(value) for value in values]
    if name == "factorial":
        return Fraction(factorial(whole[0])) if 0 <= whole[0] <= 8000 else None
    if name == "binom":
        n, k = whole
        return Fraction(comb(n, k)) if 0 <= n <= 8000 and k >= 0 else None
    if name in ("gcd", "lcm"):
        return Fraction((gcd if name == "gcd" else lcm)(*whole))
    return None


@lru_cache(maxsize=4096)
def symbols(tree: tuple) -> frozenset[str]:
    """The names of the variables of a tree."""
    if tree[0] == "s":
        return frozenset((tree[1],))
    return frozenset().union(*map(symbols, parts(tree)))


def parts(tree: tuple) -> tuple:
    """The trees that a tree is made of."""
    kind = tree[0]
    if kind in "+*":
        return tree[1]
    if kind in "nsc":
        return ()
    if kind == "m":
        return tuple(cell for row in tree[1] for cell in row)
    return tree[2:] if kind in ("f", "o") else tree[1:]


def any_part(tree: tuple, condition: Callable[[tuple], bool]) -> bool:
    return condition(tree) or any(any_part(part, condition) for part in parts(tree))


def value(tree: tuple, point: Point) -> Value:
    """The value at a point, a number of mpmath, or a matrix as a tuple of rows. Raises Undefined, or Unreadable."""
    try:
        return _value(tree, point)
    except (ZeroDivisionError, OverflowError, ValueError, TypeError, mpmath.libmp.NoConvergence) as error:
        if isinstance(error, Unreadable):
            raise
        raise Undefined(str(error)) from None


def _value(tree: tuple, point: Point) -> Value:
    kind = tree[0]
    if kind == "n":
        return mpmath.mpf(tree[1].numerator) / tree[1].denominator
    if kind == "s":
        return point[tree[1]]
    if kind == "c":
        if tree[1] == "oo":
            raise Undefined("infinity")
        return {"pi": +mp.pi, "e": +mp.e, "i": mpmath.mpc(0, 1)}[tree[1]]
    if kind == "+":
        return _sum([_value(part, point) for part in tree[1]])
    if kind == "*":
        return _product([_value(part, point) for part in tree[1]])
    if kind == "^":
        return _power(_value(tree[1], point), _value(tree[2], point))
    if kind == "root":
        return _root(_value(tree[1], point), _value(tree[2], point))
    if kind == "deg":
        return _product([_value(tree[1], point), mp.pi / 180])
    if kind == "f":
        return _function(tree[1], [_value(part, point) for part in tree[2:]])
    if kind == "o":
        return _of(tree[1], [_value(part, point) for part in tree[2:]])
    return tuple(tuple(_value(cell, point) for cell in row) for row in tree[1])


def _sum(terms: list[Value]) -> Value:
    if any(isinstance(term, tuple) for term in terms):
        if len({(len(term), len(term[0])) if isinstance(term, tuple) else () for term in terms}) > 1:
            raise Unreadable("matrices of different sizes")
        rows = range(len(terms[0]))
        return tuple(tuple(map(_sum, map(list, zip(*(term[row] for term in terms), strict=True)))) for row in rows)
    total = mpmath.fsum(terms)
    return mpmath.mpf(0) if abs(total) < ZERO_PART * max(map(abs, terms)) else total


def _product(factors: list[Value]) -> Value:
    matrices = [factor for factor in factors if isinstance(factor, tuple)]
    if len(matrices) > 1:
        raise Unreadable("a product of matrices")
    total = mpmath.fprod(factor for factor in factors if not isinstance(factor, tuple))
    if matrices:
        return tuple(tuple(total * cell for cell in row) for row in matrices[0])
    return total


def _power(base: MpNumber, exponent: MpNumber) -> MpNumber:
    if isinstance(exponent, mpmath.mpf) and abs(exponent) < MAX_BITS and exponent == int(exponent):
        exponent = int(exponent)
    if not base:
        if not mpmath.re(exponent) > 0:
            raise Undefined("zero to a power that is not positive")
        return mpmath.mpf(0)
    size = abs(mpmath.log(abs(base))) * abs(exponent) if base not in (1, -1) else 0
    if size > MAX_EXPONENT:
        raise Unreadable("a number too large")
    return mpmath.power(base, exponent)


def _root(radicand: MpNumber, degree: MpNumber) -> MpNumber:
    if degree != int(mpmath.re(degree)) or degree < 1 or degree > 1000:
        return _power(radicand, 1 / degree)
    if isinstance(radicand, mpmath.mpf) and radicand < 0 and int(degree) % 2:
        return -mpmath.root(-radicand, int(degree))
    return mpmath.root(radicand, int(degree))


_MPMATH = {
    "arcsin": mpmath.asin, "arccos": mpmath.acos, "arctan": mpmath.atan, "arccot": mpmath.acot, "arcsec": mpmath.asec,
    "arccsc": mpmath.acsc, "arcsinh": mpmath.asinh, "arccosh": mpmath.acosh, "arctanh": mpmath.atanh,
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "cot": mpmath.cot, "sec": mpmath.sec, "csc": mpmath.csc,
    "sinh": mpmath.sinh, "cosh": mpmath.cosh, "tanh": mpmath.tanh, "coth": mpmath.coth, "sech": mpmath.sech,
    "csch": mpmath.csch,
}  # fmt: skip
_PERIODIC = frozenset(["sin", "cos", "tan", "cot", "sec", "csc"])


def _function(name: str, values: list[Value]) -> Value:
    first = values[0]
    if any(isinstance(value, tuple) for value in values):
        return _of(name, values)
    if name in _MPMATH:
        if abs(first) > 1e30:
            raise Unreadable("a number too large")
        found = _MPMATH[name](first)
        if name in _PERIODIC and abs(found) < ZERO_PART * (1 + abs(first)):
            return mpmath.mpf(0)
        if name in ("tan", "sec", "cot", "csc") and abs(found) > 1 / ZERO_PART:
            raise Undefined("a pole")
        return found
    if name in ("ln", "log"):
        return _log(first)
    if name == "logb":
        return _log(first) / _log(values[1])
    if name == "exp":
        return _power(+mp.e, first)
    if name in ("abs", "norm"):
        return abs(first)
    if name in ("floor", "ceil"):
        near = mpmath.nint(mpmath.re(first))
        if abs(first - near) < ZERO_PART * max(1, abs(first)):
            return mpmath.mpf(near)
        return (mpmath.floor if name == "floor" else mpmath.ceil)(first)
    if name in ("max", "min"):
        if any(isinstance(value, mpmath.mpc) for value in values):
            raise Undefined("no order")
        return (max if name == "max" else min)(values)
    if abs(first) > 1e9:
        raise Unreadable("a number too large")
    if name == "factorial":
        return mpmath.factorial(first)
    if name == "binom":
        return mpmath.binomial(first, values[1])
    return _of(name, values)


def _log(of: MpNumber) -> MpNumber:
    if not of:
        raise Undefined("the logarithm of zero")
    return mpmath.log(of)


def _of(name: str, values: list[Value]) -> MpNumber:
    """A number that depends on nothing but the name and the values, for functions that are not evaluated."""
    text = name + "".join(f"|{mpmath.nstr(mpmath.mpmathify(part), 60)}" for value in values for part in _flat(value))
    return chosen(text, 0)


def _flat(found: Value) -> list[MpNumber]:
    return [cell for row in found for cell in row] if isinstance(found, tuple) else [found]


def chosen(name: str, number: int) -> mpmath.mpf:
    """A number between 0.4 and 2.4 for a name, another one for each `number`, in no simple relation to any other."""
    digest = hashlib.blake2b(f"{number}:{name}".encode(), digest_size=32).digest()
    return mpmath.mpf(int.from_bytes(digest, "big")) / (1 << 255) + mpmath.mpf("0.4")


def same_value(one: Value, other: Value) -> bool:
    """Whether two values agree to 80 digits of themselves."""
    if isinstance(one, tuple) or isinstance(other, tuple):
        if not (isinstance(one, tuple) and isinstance(other, tuple)) or len(one) != len(other):
            return False
        return all(
            len(row) == len(other_row) and all(map(same_value, row, other_row))
            for row, other_row in zip(one, other, strict=True)
        )
    return one == other or abs(one - other) <= SAME_PART * max(abs(one), abs(other))


def is_real(found: Value) -> bool:
    return all(not isinstance(part, mpmath.mpc) or abs(part.imag) <= SAME_PART * abs(part) for part in _flat(found))
