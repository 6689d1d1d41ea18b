r"""The items of a statement: `\pm` written out, names taken off, one value as a list of one."""

from collections.abc import Sequence
from fractions import Fraction

from openrlhf_math.rewards.evaluate import symbols
from openrlhf_math.rewards.kinds import Expression, Items, Relation, Statement
from openrlhf_math.rewards.latex import PLUS_MINUS
from openrlhf_math.rewards.names import is_name
from openrlhf_math.rewards.notation import key
from openrlhf_math.rewards.same_trees import replaced
from openrlhf_math.rewards.statement import read


def is_named(relation: Relation) -> bool:
    r"""`x = 5`, `f(x) = 2x`, `m_{\max} = 3`: what the value is of, and the value."""
    return len(relation.signs) == 1 and relation.signs[0] == "=" and names_something(relation.texts[0])


def names_something(text: str) -> bool:
    r"""Whether a side only says what the value is of: `x`, `f(x)`, `P(A \cap B)`, `\angle ABC`, `V_{\max}`, `AB`."""
    return is_name(text)


def symbols_of(statement: Statement) -> frozenset[str]:
    return symbols(statement.tree) if isinstance(statement, Expression) else frozenset()


def kind_of(statement: Statement) -> str:
    return statement.kind if isinstance(statement, Items) else "one"


def written_out(statement: Statement) -> list[Statement]:
    """The items with `\\pm` written out."""
    found: list[Statement] = []
    items = statement.items if isinstance(statement, Items) and statement.kind != "tuple" else (statement,)
    for item in items:
        if isinstance(item, Items) and item.kind != "tuple":
            found += written_out(item)
        else:
            found += both_signs(item)
    return found


def both_signs(statement: Statement) -> list[Statement]:
    if isinstance(statement, Expression) and "±" in symbols(statement.tree):
        return [
            Expression(
                replaced(statement.tree, PLUS_MINUS, ("n", Fraction(sign))), statement.measure, statement.percent
            )
            for sign in (1, -1)
        ]
    if (
        isinstance(statement, Items)
        and statement.kind == "tuple"
        and any("±" in symbols_of(item) for item in statement.items)
    ):
        return [
            Items("tuple", tuple(_one_sign(item, sign) for item in statement.items), statement.brackets)
            for sign in (1, -1)
        ]
    if isinstance(statement, Relation) and is_named(statement) and "\\pm" in statement.texts[1]:
        return both_signs(read(statement.texts[1]))
    return [statement]


def _one_sign(item: Statement, sign: int) -> Statement:
    if not isinstance(item, Expression):
        return item
    return Expression(replaced(item.tree, PLUS_MINUS, ("n", Fraction(sign))), item.measure, item.percent, item.decimal)


def names_of(items: Sequence[Statement]) -> set[str]:
    """The names of a list's items without subscripts; empty if one has no name: `x = 3, x = 5` has one, x."""
    named = [item for item in items if isinstance(item, Relation) and is_named(item)]
    if len(named) < len(items):
        return set()
    names = {key(item.texts[0]) for item in named}
    stems = {name.partition("_")[0] for name in names}
    return stems if len(stems) == 1 else names


def without_names(items: Sequence[Statement]) -> list[Statement]:
    return [read(item.texts[1]) if isinstance(item, Relation) and is_named(item) else item for item in items]
