r"""Whether two answers are the same. Yes needs a certificate; what is not read as a whole is never equal.

Certificates: the same text in one spelling; equal rational numbers; expressions in the same variables whose values
agree to 80 digits at several points; the same region of the real line; for lists, sets, tuples and matrices a matching
of their items by these rules.
"""

import re
from fractions import Fraction
from functools import lru_cache

import mpmath

from openrlhf_math.rewards.evaluate import (
    Undefined,
    any_part,
    chosen,
    exact,
    is_real,
    parts,
    same_value,
    symbols,
    value,
)  # fmt: skip
from openrlhf_math.rewards.latex import INVERSE, PLUS_MINUS, Unreadable, parse
from openrlhf_math.rewards.measures import COUNT, Measure
from openrlhf_math.rewards.names import by_name, is_name, is_quantity
from openrlhf_math.rewards.notation import key
from openrlhf_math.rewards.regions import Region, joined, points, same_region
from openrlhf_math.rewards.statement import (
    Expression,
    Items,
    Relation,
    Tagged,
    Where,
    as_interval,
    is_grouped,
    read,
    with_bare_unit,
)  # fmt: skip

POINTS, TRIES = 4, 10
# Where an expression has steps, it is compared at more points.
STEPS = 80
# A decimal stands for a number that rounds to it if it has this many places and this many significant digits.
PLACES = 6
_UNKNOWNS = frozenset(["x", "y", "z", "w", "u", "v", "t", "s", "\\theta", "\\phi"])
_WHOLE = frozenset(["i", "j", "k", "l", "m", "n", "p", "q", "r", "K", "L", "M", "N"])
_STEPS = frozenset(("floor", "ceil", "gcd", "lcm"))
HALF = Fraction(1, 2)
_PLAIN_MEASURE = re.compile(r"\A-?[0-9][0-9.,]{0,40} [a-zA-Z]{2}")


def equivalent(gold: str, answer: str, problem: str = "") -> bool:
    """Whether two tidied texts denote the same answer. Raises nothing for any text; linear time but for the values."""
    if key(gold) == key(answer):
        return True
    try:
        first, second = read(gold, problem), read(answer, problem)
        if _same(first, second):
            return True
        if isinstance(first, Items) and is_grouped(answer):  # `30,150` is a number, or 30 and 150
            return _same(first, read(answer.replace(",", ", "), problem))
    except (Unreadable, RecursionError):
        pass
    return False


def fingerprint(answer: str, problem: str = "") -> str:
    """A text that differs for two answers only if they are different; "" for answers of which that cannot be said.

    It has the values of an exact expression, without a unit, at fixed points, to 60 digits.
    """
    try:
        return _fingerprint(read(answer, problem))
    except (Unreadable, Undefined, RecursionError):
        return ""


def _fingerprint(statement) -> str:
    if isinstance(statement, Items) and statement.kind == "tuple":
        found = [_fingerprint(item) for item in statement.items]
        return f"{statement.brackets}{found}" if all(found) else ""
    if not isinstance(statement, Expression) or not _plain_value(statement):
        return ""
    names = sorted(symbols(statement.tree))
    if names and (_under_roots(statement.tree) or any_part(statement.tree, _stepped)):
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


def _same(gold, answer, depth: int = 0) -> bool:
    if depth > 6:
        return False
    if isinstance(gold, Where) or isinstance(answer, Where):
        return _same_where(gold, answer, depth)
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return _same_relation(gold, answer, depth)
    if isinstance(gold, Tagged) or isinstance(answer, Tagged):
        return _same_tagged(gold, answer, depth)
    if isinstance(gold, Expression) and isinstance(answer, Expression):
        return _same_expression(gold, answer)
    gold_region, answer_region = _region(gold, answer), _region(answer, gold)
    if gold_region is not None and answer_region is not None:
        return same_region(gold_region, answer_region)
    return _same_items(gold, answer, depth)


# -- conditions behind a value --


def _same_where(gold, answer, depth: int) -> bool:
    gold_main, gold_conditions = (gold.main, gold.conditions) if isinstance(gold, Where) else (gold, ())
    answer_main, answer_conditions = (answer.main, answer.conditions) if isinstance(answer, Where) else (answer, ())
    if gold_conditions and answer_conditions:
        if len(gold_conditions) != len(answer_conditions):
            return False
        if not all(map(equivalent, sorted(gold_conditions), sorted(answer_conditions))):
            return False
    return _same(gold_main, answer_main, depth + 1)


# -- relations --


def _same_relation(gold, answer, depth: int) -> bool:
    if isinstance(gold, Relation) and isinstance(answer, Relation):
        return _both_relations(gold, answer, depth)
    if isinstance(gold, Relation):
        if _says_value(gold) and _same(read(gold.texts[-1]), answer, depth + 1):
            return True
        return isinstance(answer, Items) and gold.is_equation and _same_items(gold, answer, depth)
    return _value_of(gold, answer, depth)


def _is_named(relation: Relation) -> bool:
    r"""`x = 5`, `f(x) = 2x`, `m_{\max} = 3`: what the value is of, and the value."""
    return len(relation.signs) == 1 and relation.signs[0] == "=" and names_something(relation.texts[0])


def _says_value(relation: Relation) -> bool:
    r"""A named value, or a quantity and its number: `\tan x = \frac12`."""
    if _is_named(relation):
        return True
    if relation.signs != ("=",) or not is_quantity(relation.texts[0]):
        return False
    return not _symbols_of(read(relation.texts[1]))


def names_something(text: str) -> bool:
    r"""Whether a side only says what the value is of: `x`, `f(x)`, `P(A \cap B)`, `\angle ABC`, `V_{\max}`, `AB`."""
    return is_name(text)


def _value_of(gold, answer: Relation, depth: int) -> bool:
    """`x = 5`, `2+3 = 5`, `m+n = 5` for the gold `5`: all sides that are values agree, the others only name it."""
    if not answer.is_equation:
        if len(answer.signs) == 1 and answer.signs[0] == "in" and names_something(answer.texts[0]):
            inner = read(answer.texts[1])
            return isinstance(inner, Items) and _same(gold, inner, depth + 1)
        return False
    zero = isinstance(gold, Expression) and exact(gold.tree) == 0
    statements = [
        _read_or_none(text) if place or not names_something(text) else None for place, text in enumerate(answer.texts)
    ]
    agreed = [one for one in statements if one is not None and _same(gold, one, depth + 1)]
    return bool(agreed) and all(
        one in agreed
        or one is not None
        and any(_same(other, one, depth + 1) for other in agreed)
        or _only_names(answer, place, one, gold, zero)
        or _rounded(gold, one, answer.signs, place)
        or _goes_on(gold, answer.texts[place])
        for place, one in enumerate(statements)
    )


def _only_names(answer: Relation, place: int, statement, gold, zero: bool) -> bool:
    """Whether a side says what the value is of: a name at either end, or a quantity before a value that is not 0."""
    text = answer.texts[place]
    if place in (0, len(answer.texts) - 1) and names_something(text):
        return True
    if place or zero or not is_quantity(text):
        return False
    return not isinstance(statement, Expression) or bool(symbols(statement.tree)) and not _symbols_of(gold)


def _read_or_none(text: str):
    try:
        return read(text)
    except Unreadable:
        return None


def _symbols_of(statement) -> frozenset:
    return symbols(statement.tree) if isinstance(statement, Expression) else frozenset()


def _rounded(gold, statement, signs: tuple[str, ...], place: int) -> bool:
    r"""Whether a further side is the gold rounded: `\sqrt{2} = 1.41\ldots`, `\sqrt{13} \approx 3.61`."""
    if not place or not isinstance(gold, Expression) or not isinstance(statement, Expression) or not statement.decimal:
        return False
    return signs[place - 1] == "~" and _rounds_to(gold.tree, statement, 0)


def _goes_on(gold, text: str) -> bool:
    r"""Whether a side is the gold's beginning, `13.416\ldots`."""
    digits, dots, rest = text.partition("\\ldots")
    if not dots or rest.strip() or not isinstance(gold, Expression) or symbols(gold.tree):
        return False
    try:
        written, size = read(digits), value(gold.tree, {})
    except (Unreadable, Undefined):
        return False
    if not isinstance(written, Expression) or not written.decimal or not is_real(size) or isinstance(size, tuple):
        return False
    return abs(size - value(written.tree, {})) < mpmath.mpf(10) ** -written.decimal[0]


def _both_relations(gold: Relation, answer: Relation, depth: int) -> bool:
    if not (gold.is_equation and answer.is_equation):
        return _same_inequality(gold, answer)
    if _is_named(gold) and _is_named(answer):
        name, other = gold.texts[0], answer.texts[0]
        if key(name) == key(other):
            return _same(read(gold.texts[1]), read(answer.texts[1]), depth + 1)
        renamed = _renamed(name, other)
        if renamed:
            value_of = _substituted(read(answer.texts[1]), *renamed)
            return value_of is not None and _same(read(gold.texts[1]), value_of, depth + 1)
    if len(gold.signs) > 1 or len(answer.signs) > 1:
        if (
            len(answer.signs) > 1
            and _is_named(gold)
            and names_something(answer.texts[0])
            and key(answer.texts[0]) == key(gold.texts[0])
        ):
            return _value_of(read(gold.texts[1]), answer, depth + 1)
        return False
    if _is_named(gold) and names_something(answer.texts[0]) and _of_function(gold.texts[0], answer.texts[0]):
        return _same(read(gold.texts[1]), read(answer.texts[1]), depth + 1)
    return same_equation(gold.texts, answer.texts)


def _renamed(name: str, other: str) -> tuple[str, str] | None:
    """`f(x)` and `f(n)`: the variables' names, if these are all that differs."""
    one, two = key(name), key(other)
    if not (one.endswith(")") and two.endswith(")")):
        return None
    function, _, variable = one[:-1].partition("(")
    function_two, _, variable_two = two[:-1].partition("(")
    if function != function_two or not (variable.isalpha() and variable_two.isalpha()):
        return None
    return variable_two, variable


def _of_function(name: str, other: str) -> bool:
    """`y = 2x` and `f(x) = 2x`: a curve and the function it is the graph of."""
    names = {key(name), key(other)}
    if len({one.partition("(")[0] for one in names}) == 1 and any("(" not in one for one in names):
        return True
    return "y" in names and any(one[1:] == "(x)" for one in names)


def _substituted(statement, name: str, new: str):
    if not isinstance(statement, Expression) or new in symbols(statement.tree):
        return None
    return Expression(_replaced(statement.tree, ("s", name), ("s", new)), statement.measure, statement.percent)


def _replaced(tree: tuple, old: tuple, new: tuple) -> tuple:
    if tree == old:
        return new
    kind = tree[0]
    if kind in "+*":
        return (kind, tuple(_replaced(part, old, new) for part in tree[1]))
    if kind in "nsc":
        return tree
    if kind == "m":
        return (kind, tuple(tuple(_replaced(cell, old, new) for cell in row) for row in tree[1]))
    start = 2 if kind in ("f", "o") else 1
    return (*tree[:start], *(_replaced(part, old, new) for part in tree[start:]))


def same_equation(gold: tuple[str, ...], answer: tuple[str, ...]) -> bool:
    """Whether two equations are multiples of each other: left minus right has a constant ratio that is not 0."""
    first, second = _difference(gold), _difference(answer)
    if first is None or second is None:
        return False
    second = _aligned(first, second)
    if symbols(first) != symbols(second) or not symbols(first):
        return False
    ratio = None
    for one, other in _pairs(first, second):
        if not one or not other:
            return False
        found = one / other
        if ratio is not None and not same_value(found, ratio):
            return False
        ratio = found
    return ratio is not None


def _difference(sides: tuple[str, ...]) -> tuple | None:
    if len(sides) != 2:
        return None
    trees = []
    for side in sides:
        tree = parse(side.replace(":", "/") if side.count(":") == 1 else side)
        if any_part(tree, lambda part: part[0] == "m" or part == PLUS_MINUS):
            return None
        trees.append(tree)
    return ("+", (trees[0], ("*", (("n", Fraction(-1)), trees[1]))))


def _same_inequality(gold: Relation, answer: Relation) -> bool:
    """Other relations: the same signs between sides that are the same, read from either end."""
    turned = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!=", "~": "~"}
    choices = [answer]
    if all(sign in turned for sign in answer.signs):
        choices.append(Relation(answer.texts[::-1], tuple(turned[sign] for sign in answer.signs[::-1])))
    for choice in choices:
        if choice.signs == gold.signs and len(choice.texts) == len(gold.texts):
            try:
                if all(_same(read(one), read(other), 2) for one, other in zip(gold.texts, choice.texts, strict=True)):
                    return True
            except Unreadable:
                continue
    return False


# -- texts of a kind of their own --


def _same_tagged(gold, answer, depth: int) -> bool:
    if isinstance(gold, Tagged) and isinstance(answer, Tagged):
        if gold.kind != answer.kind:
            return False
        if gold.kind == "ratio":
            return _same_ratio(gold.content, answer.content)
        if gold.kind == "residue":
            names = gold.content[2], answer.content[2]
            if gold.content[1] != answer.content[1] or all(names) and names[0] != names[1]:
                return False
            return _same(gold.content[0], answer.content[0], depth + 1)
        if gold.kind == "clock":
            return _same_clock(gold.content, answer.content)
        if gold.kind == "words" and gold.content[0] == "date" == answer.content[0]:
            return gold.content[1:3] == answer.content[1:3] and (
                gold.content[3] == answer.content[3] or not answer.content[3]
            )
        return gold.content == answer.content
    tagged, other = (gold, answer) if isinstance(gold, Tagged) else (answer, gold)
    if tagged.kind == "ratio" and len(tagged.content) == 2 and isinstance(other, Expression) and not other.measure:
        quotient = ("*", (tagged.content[0], ("^", tagged.content[1], ("n", Fraction(-1)))))
        whole = exact(other.tree)
        if whole is not None and whole.denominator == 1:
            return False
        return not other.percent and _same_trees(quotient, other.tree)
    if tagged.kind == "residue" and isinstance(other, Expression):
        return _same(tagged.content[0], other, depth + 1)
    if tagged.kind == "words" and tagged.content[0] == "ordinal" and isinstance(other, Expression):
        return exact(other.tree) == tagged.content[1] and other.measure in (None, COUNT, Measure((("th", 1),)))
    if (
        tagged.kind == "clock"
        and isinstance(other, Expression)
        and _half(other.measure)
        and tagged.content[1:3] == (0, 0)
    ):
        return exact(other.tree) == tagged.content[0] and _half(other.measure) == tagged.content[3]
    if tagged.kind == "base" and isinstance(other, Expression):
        value_of = exact(other.tree)
        if value_of is None or value_of.denominator != 1 or other.measure:
            return False
        digits, base = tagged.content
        return (base == 10 or tagged is gold) and digits.isdigit() and int(digits) == value_of
    return False


def _half(measure: Measure | None) -> str:
    name = measure.dimension[0][0] if measure and len(measure.dimension) == 1 else ""
    return name if name in ("am", "pm") else "" if measure is None else "?"


def _same_clock(gold: tuple, answer: tuple) -> bool:
    if gold[3] and answer[3]:
        return gold == answer
    return gold[:3] == answer[:3]


def _same_ratio(gold: tuple, answer: tuple) -> bool:
    if len(gold) != len(answer):
        return False
    firsts = gold[0], answer[0]
    return all(
        _same_trees(("*", (one, firsts[1])), ("*", (other, firsts[0])))
        for one, other in zip(gold[1:], answer[1:], strict=True)
    )


# -- several --


def _region(statement, other) -> Region | None:
    if isinstance(statement, Region):
        return statement
    if isinstance(statement, Items):
        if statement.kind == "tuple":
            return as_interval(statement) if isinstance(other, Region) else None
        if statement.kind == "list" and isinstance(other, Region) and not other.finite:
            found = [_region(item, other) for item in statement.items]
            return joined(found) if all(region is not None for region in found) else None
        if isinstance(other, Region) and other.finite:
            return _numbers(statement)
    if isinstance(statement, Expression) and isinstance(other, Region) and other.finite:
        return _numbers(Items("set", (statement,)))
    return None


def _numbers(items: Items) -> Region | None:
    found, flat = [], _flat(items)
    names = _names(flat)
    if len(names) > 1:
        return None
    for item in _without_names(flat):
        if not isinstance(item, Expression) or item.measure or symbols(item.tree):
            return None
        try:
            found.append(value(item.tree, {}))
        except (Undefined, Unreadable):
            return None
    if any(isinstance(one, tuple) for one in found) or not all(map(is_real, found)):
        return None
    return points(found).named(next(iter(names), None))


def _same_items(gold, answer, depth: int) -> bool:
    if isinstance(gold, Region) or isinstance(answer, Region):
        return False
    golds, answers = _flat(gold), _flat(answer)
    if len(answers) > 1 and _kind(answer) == "tuple":
        answer = Items("list", tuple(answers))
    if len(golds) > 1 and _kind(gold) == "tuple":
        gold = Items("list", tuple(golds))
    kinds = _kind(gold), _kind(answer)
    if kinds == ("tuple", "tuple"):
        return gold.brackets == answer.brackets and _in_order(gold.items, answer.items, depth)
    if kinds[0] == "tuple" or kinds[1] == "tuple":
        return _tuple_and_other(gold, answer, kinds, depth)
    if kinds[0] == "one" and len(golds) == 1:
        return _repeats(golds, answers, depth)
    if kinds[1] == "one" and len(answers) == 1 and len(golds) > 1:
        return _all_the_same(golds, answers[0], depth)
    return _matched(golds, answers, depth)


def _kind(statement) -> str:
    return statement.kind if isinstance(statement, Items) else "one"


def _repeats(golds: list, answers: list, depth: int) -> bool:
    """`17, 17`, `\\frac14 \\text{ or } 0.25` for one value: the same thing several times."""
    return all(_same(golds[0], answer, depth + 1) for answer in answers)


def _all_the_same(golds: list, answer, depth: int) -> bool:
    r"""`\angle A = 90, \angle B = 90` and the one value of both."""
    if not all(isinstance(gold, Relation) and _is_named(gold) for gold in golds) or isinstance(answer, Relation):
        return False
    return all(_same(read(gold.texts[1]), answer, depth + 1) for gold in golds)


def _in_order(golds, answers, depth: int) -> bool:
    return len(golds) == len(answers) and all(
        _same(one, other, depth + 1) for one, other in zip(golds, answers, strict=True)
    )


def _tuple_and_other(gold, answer, kinds: tuple[str, str], depth: int) -> bool:
    if kinds[0] == "tuple":
        if isinstance(answer, Expression) and answer.tree[0] in "m*":
            return _vector(gold, answer.tree)
        if (
            isinstance(answer, Relation)
            and answer.is_equation
            and len(answer.texts) == 2
            and names_something(answer.texts[0])
        ):
            return _same(gold, read(answer.texts[1]), depth + 1)
        named = by_name(answer) if isinstance(answer, Items) and answer.kind == "list" else None
        return named is not None and gold.brackets == "()" and _in_order(gold.items, named, depth)
    if isinstance(gold, Expression) and gold.tree[0] in "m*":
        return _vector(answer, gold.tree)
    if isinstance(gold, Items) and gold.kind == "list":
        named = by_name(gold)
        if named is not None and answer.brackets == "()":
            return _in_order(named, answer.items, depth)
        if answer.brackets == "()" and gold.joint == "," and all(isinstance(item, Expression) for item in gold.items):
            return _in_order(gold.items, answer.items, depth)
    return False


def _vector(items: Items, tree: tuple) -> bool:
    """A tuple and a column or a row; a tuple of tuples and a matrix."""
    rows = []
    for item in items.items:
        inner = item.items if isinstance(item, Items) and item.kind == "tuple" else (item,)
        if not all(isinstance(one, Expression) and not one.measure for one in inner):
            return False
        rows.append(tuple(one.tree for one in inner))
    if len({len(row) for row in rows}) != 1:
        return False
    column = ("m", tuple(rows))
    return _same_trees(column, tree) or len(rows[0]) == 1 and _same_trees(("m", (tuple(row[0] for row in rows),)), tree)


def _flat(statement) -> list:
    """The items with `\\pm` written out."""
    found = []
    items = statement.items if isinstance(statement, Items) and statement.kind != "tuple" else (statement,)
    for item in items:
        if isinstance(item, Items) and item.kind != "tuple":
            found += _flat(item)
        else:
            found += both_signs(item)
    return found


def both_signs(statement) -> list:
    if isinstance(statement, Expression) and "±" in symbols(statement.tree):
        return [
            Expression(
                _replaced(statement.tree, PLUS_MINUS, ("n", Fraction(sign))), statement.measure, statement.percent
            )
            for sign in (1, -1)
        ]
    if (
        isinstance(statement, Items)
        and statement.kind == "tuple"
        and any("±" in _symbols_of(item) for item in statement.items)
    ):
        return [
            Items("tuple", tuple(_one_sign(item, sign) for item in statement.items), statement.brackets)
            for sign in (1, -1)
        ]
    if isinstance(statement, Relation) and _is_named(statement) and "\\pm" in statement.texts[1]:
        return both_signs(read(statement.texts[1]))
    return [statement]


def _one_sign(item, sign: int):
    if not isinstance(item, Expression):
        return item
    return Expression(_replaced(item.tree, PLUS_MINUS, ("n", Fraction(sign))), item.measure, item.percent, item.decimal)


def _matched(golds: list, answers: list, depth: int) -> bool:
    """Whether each item on either side has an equal one on the other; order and repetition do not count."""
    if len(golds) > 100 or len(answers) > 100 or len(answers) > 2 * len(golds) + 2:
        return False
    names, others = _names(golds), _names(answers)
    if len(names) > 1 and len(names) == len(golds):
        return _matched_by_name(golds, answers, depth)
    if others and (names and not others <= names or not names and len(others) > 1 and len(others) < len(answers)):
        return False
    golds, answers = _without_names(golds), _without_names(answers)
    found = set()
    for answer in answers:
        place = next((place for place, gold in enumerate(golds) if _same(gold, answer, depth + 1)), None)
        if place is None:
            return False
        found.add(place)
    return all(
        place in found or any(_same(gold, golds[other], depth + 1) for other in found)
        for place, gold in enumerate(golds)
    )


def _matched_by_name(golds: list, answers: list, depth: int) -> bool:
    """`a = 1, b = 2`: the same values under the same names, or the values alone in the order of the names."""
    if _names(answers):
        if len(_names(answers)) != len(answers) or len(answers) != len(golds):
            return False
        return all(any(_same(gold, answer, depth + 1) for answer in answers) for gold in golds)
    named = by_name(Items("list", tuple(golds)))
    return named is not None and _in_order(named, answers, depth)


def _names(items: list) -> set[str]:
    """The names of a list's items without subscripts; empty if one has no name: `x = 3, x = 5` has one, x."""
    if not all(isinstance(item, Relation) and _is_named(item) for item in items):
        return set()
    names = {key(item.texts[0]) for item in items}
    stems = {name.partition("_")[0] for name in names}
    return stems if len(stems) == 1 else names


def _without_names(items: list) -> list:
    return [read(item.texts[1]) if isinstance(item, Relation) and _is_named(item) else item for item in items]


# -- values --


def _same_expression(gold: Expression, answer: Expression) -> bool:
    if "±" in symbols(gold.tree) | symbols(answer.tree):
        return _matched(both_signs(gold), both_signs(answer), 3) and len(both_signs(gold)) == len(both_signs(answer))
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
    if gold.degrees != answer.degrees:  # `60^\circ` is 60 as well as a third of pi
        return _same_number(gold, answer, _without_degrees(one), _without_degrees(other))
    return False


def _same_number(gold: Expression, answer: Expression, one: tuple, other: tuple) -> bool:
    if _same_trees(one, other):
        return True
    if answer.decimal and (not gold.decimal or gold.decimal[0] > answer.decimal[0]):
        return _rounds_to(one, answer, PLACES)
    if gold.decimal:
        return _rounds_to(other, gold, PLACES)
    return False


def _rounds_to(tree: tuple, decimal: Expression, places: int) -> bool:
    """Whether a number is as near to a decimal as the decimal's last digit says, and the decimal long enough."""
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


def _without_degrees(tree: tuple) -> tuple:
    return tree[1] if tree[0] == "deg" else tree


def _units_agree(gold: Expression, answer: Expression) -> bool:
    if not gold.measure or not answer.measure:
        if gold.tree[0] == "deg" and answer.measure and answer.measure.dimension:
            return answer.measure.dimension == (("deg", 1),)
        return not (gold.percent and answer.measure)
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
    if _same_trees(percent.tree, plain.tree):
        return True
    whole = exact(plain.tree)
    if plain is gold and (whole is None or whole.denominator == 1 and abs(whole) > 1):
        return False
    return _same_trees(("*", (percent.tree, ("n", Fraction(1, 100)))), plain.tree)


@lru_cache(maxsize=8192)
def _same_trees(gold: tuple, answer: tuple) -> bool:
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
    answer = _aligned(gold, answer)
    infinite = ("c", "oo")
    if any_part(gold, lambda part: part == infinite) or any_part(answer, lambda part: part == infinite):
        return gold == answer or ("*", (("n", Fraction(-1)), infinite)) == gold == answer
    if _ordered_product(gold) or _ordered_product(answer):
        return False
    if symbols(gold) != symbols(answer):
        return False
    stepped = any_part(gold, _stepped) or any_part(answer, _stepped)
    if (
        symbols(gold)
        and symbols(gold) <= _WHOLE
        and (stepped or any_part(gold, _alternates) and any_part(answer, _alternates))
    ):
        return _same_at_whole_numbers(gold, answer)
    return all(same_value(one, other) for one, other in _pairs(gold, answer, STEPS if stepped else POINTS))


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


def _aligned(gold: tuple, answer: tuple) -> tuple:
    """The answer with `y'` and `\\dot y` written as the gold writes that derivative, if the gold has only one."""
    for name in symbols(answer) - symbols(gold):
        marks = len(name) - len(name.rstrip("'"))
        if marks:
            of = name.rstrip("'")
            same = [one for one in symbols(gold) if one.startswith(f"Dd{marks}:{of}:")]
            if len(same) == 1:
                answer = _replaced(answer, ("s", name), ("s", same[0]))
        elif name.startswith("Dd"):
            _, of, _ = name.split(":")
            dashed = of + "'" * int(name[2])
            if dashed in symbols(gold):
                answer = _replaced(answer, ("s", name), ("s", dashed))
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


def _pairs(gold: tuple, answer: tuple, count: int = POINTS):
    """The values of two trees at points where both have one. Raises Unreadable if there are too few."""
    names = sorted(symbols(gold) | symbols(answer))
    positive = (_under_roots(gold) | _under_roots(answer)) - _UNKNOWNS
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


def _under_roots(tree: tuple) -> frozenset[str]:
    """The variables under square roots and logarithms, which stand for lengths and the like."""
    kind = tree[0]
    inside = frozenset()
    if kind == "root" or tree[:2] in (("f", "ln"), ("f", "log"), ("f", "logb")):
        inside = symbols(tree)
    elif kind == "^":
        power = exact(tree[2])
        if power is None or power.denominator % 2 == 0 or power.denominator != 1:
            inside = symbols(tree[1])
    return inside.union(*map(_under_roots, parts(tree)))


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


def _real_value(tree: tuple, point: dict):
    try:
        found = value(tree, point)
    except Undefined:
        return None
    return found if is_real(found) else None


def _stepped(part: tuple) -> bool:
    return part[0] == "f" and part[1] in _STEPS


def _alternates(part: tuple) -> bool:
    """`(-1)^n`, `\\cos n\\pi`."""
    if part[:2] in (("f", "cos"), ("f", "sin")):
        return any_part(part, lambda one: one == ("c", "pi"))
    return part[0] == "^" and exact(part[1]) == -1
