r"""The items of a statement: `\pm` written out, names before an equals sign taken off, one value as a list of one."""

import re
from collections.abc import Sequence
from fractions import Fraction

from openrlhf_math.rewards.evaluate import any_part, symbols
from openrlhf_math.rewards.kinds import Expression, Items, Relation, Statement
from openrlhf_math.rewards.latex import PLUS_MINUS, Unreadable, parse
from openrlhf_math.rewards.notation import key
from openrlhf_math.rewards.same_trees import replaced
from openrlhf_math.rewards.statement import read
from openrlhf_math.rewards.words import is_words


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


_WORDS = re.compile(r"\A(?:\\(?:(?:t(?:ext(?:bf)?)|m(?:athrm|box)|operatorname) ?\{[^{}0-9]{1,60}\}|#)|[A-Za-z #])+\Z")
_CALL = re.compile(
    r"\A(?:\\(?:mathbb|mathrm|mathbf|text|operatorname) ?\{?)?[A-Za-z]{1,4}'{0,2}\}?"
    r"(?:_(?:[A-Za-z0-9]|\{[A-Za-z0-9]{1,9}\})|\^\{-1\}){0,2} ?[(\[].{1,60}[)\]]\Z"
)
_FIGURE = re.compile(
    r"\A(?:m ?)?(?:\\(?:angle|triangle|overline|overrightarrow|widehat|hat|vec|mathbf|bar|tilde)|\||\[)[^0-9=+]{1,40}\Z"
)
_OTHERS = re.compile(
    r"\A(?:\\Pr ?[(\[].{1,60}[)\]]|\\(?:min|max|sup|inf)(?: ?[A-Za-z])?|\\frac\{d\}\{d ?[a-z]\} ?[a-zA-Z].{0,20})\Z"
)
_POINTS = re.compile(r"\A[A-Z]'?(?: ?[A-Z]'?){1,3}\Z")
_UNKNOWN = re.compile(r"(?<![a-zA-Z\\])[xy](?![a-zA-Z])")


def is_name(text: str) -> bool:
    """Whether a text only names a value."""
    text = text.strip()
    if not text or text[0].isdigit():
        return False
    if _WORDS.match(text) and not any(word in text for word in (" or ", " and ", "not")):
        return is_words(text) or _POINTS.match(text) is not None or len(text) == 1 and text != "e" or "#" in text
    if _OTHERS.match(text):
        return True
    if _CALL.match(text) or _POINTS.match(text) or _FIGURE.match(text):
        return (
            not (text.startswith("|") and _UNKNOWN.search(text))
            and not text.startswith("[")
            or text.startswith("[")
            and len(text) < 9
        )
    if text.startswith("(") and text.endswith(")"):
        inner = [part.strip() for part in text[1:-1].split(",")]
        return len(inner) > 1 and all(map(is_name, inner))
    try:
        tree = parse(text)
    except Unreadable:
        return False
    return tree[0] in ("s", "o") and tree != ("s", "±")


def is_quantity(text: str) -> bool:
    r"""Whether a text is a quantity whose value is asked, `m+n`, `\log_2 x`, `|z|`, and no equation in x and y."""
    text = text.strip()
    if is_name(text):
        return True
    bare = text
    for function in ("log", "ln", "sin", "cos", "tan"):
        if text.startswith("\\" + function):
            return True
    if _UNKNOWN.search(bare):
        return False
    if "\\bmod" in text or "\\int" in text or "\\lim" in text or "\\sum" in text or "\\mathbb" in text:
        return True
    try:
        return bool(symbols(parse(text)))
    except Unreadable:
        return False


def by_name(items: Items) -> list | None:
    """`b = 2, a = 1` -> 1, 2: the values in the order of their names, as in (a, b); None if some have no name."""
    named = []
    for item in items.items:
        if not isinstance(item, Relation) or len(item.texts) != 2 or item.signs != ("=",) or not is_name(item.texts[0]):
            return None
        named.append((_place(item.texts[0]), item.texts[1]))
    if len({name for name, _ in named}) < len(named):
        return None
    return [read(value) for _, value in sorted(named)]


def _place(name: str) -> tuple[int, str]:
    order = ("r", "\\rho", "\\theta", "\\phi")
    return (order.index(name), name) if name in order[:1] + order[1:] else (9, name)


def column(tree: tuple) -> bool:
    return any_part(tree, lambda part: part[0] == "m")
