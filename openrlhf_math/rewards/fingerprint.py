"""A short text for the value of an answer, so that many answers are distinguished without comparing each pair."""

import mpmath

from openrlhf_math.rewards.evaluate import Undefined, any_part, chosen, exact, symbols, value
from openrlhf_math.rewards.kinds import Expression, Items, Statement
from openrlhf_math.rewards.latex import Unreadable
from openrlhf_math.rewards.measured import with_bare_unit
from openrlhf_math.rewards.same_trees import has_steps, under_roots
from openrlhf_math.rewards.statement import read


def fingerprint(answer: str, problem: str = "") -> str:
    """A text that differs for two answers only if they are different; "" for answers of which that cannot be said.

    It has the values of an exact expression, without a unit, at fixed points, to 60 digits.
    """
    try:
        return _fingerprint(read(answer, problem))
    except (Unreadable, Undefined, RecursionError):
        return ""


def _fingerprint(statement: Statement) -> str:
    if isinstance(statement, Items) and statement.kind == "tuple":
        found = [_fingerprint(item) for item in statement.items]
        return f"{statement.brackets}{found}" if all(found) else ""
    if not isinstance(statement, Expression) or not _plain_value(statement):
        return ""
    names = sorted(symbols(statement.tree))
    if names and (under_roots(statement.tree) or any_part(statement.tree, has_steps)):
        return ""
    found = [value(statement.tree, {name: chosen(name, turn) for name in names}) for turn in (0, 1)]
    if any(isinstance(one, tuple) for one in found):
        return ""
    return f"{names} {' '.join(mpmath.nstr(one, 60) for one in found)}"


def _plain_value(statement: Expression) -> bool:
    """Whether a value can only be read in one way: no unit, percentage, angle, decimal, sign to choose or letter."""
    if statement.measure or statement.percent or statement.degrees or statement.decimal:
        return False
    if statement.tree[0] == "s" or "±" in symbols(statement.tree) or with_bare_unit(statement.text):
        return False
    return not any_part(statement.tree, _ambiguous)


def _ambiguous(part: tuple) -> bool:
    return part[:2] == ("f", "log") or part == ("c", "oo") or part[0] == "^" and exact(part[1]) == -1 or part[0] == "o"
