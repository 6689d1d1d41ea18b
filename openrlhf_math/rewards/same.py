r"""Whether two answers are the same. Yes needs a certificate; what is not read as a whole is never equal.

Certificates: the same text in one spelling; equal rational numbers; expressions in the same variables whose values
agree to 80 digits at several points; the same region of the real line; for lists, sets, tuples and matrices a matching
of their items by these rules.
"""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import mpmath

from openrlhf_math.rewards.evaluate import Undefined, any_part, exact, is_real, same_value, symbols, value
from openrlhf_math.rewards.kinds import Expression, Items, Pieces, Relation, Statement, Tagged, Where
from openrlhf_math.rewards.latex import PLUS_MINUS, Unreadable, parse
from openrlhf_math.rewards.listing import (
    both_signs,
    by_name,
    is_named,
    is_quantity,
    kind_of,
    names_of,
    names_something,
    symbols_of,
    without_names,
    written_out,
)
from openrlhf_math.rewards.notation import key
from openrlhf_math.rewards.piecewise import same_pieces
from openrlhf_math.rewards.regions import Region, joined, points, same_region
from openrlhf_math.rewards.same_trees import aligned, replaced, same_trees, values_at_points
from openrlhf_math.rewards.same_value import rounds_to, same_expression, same_tagged
from openrlhf_math.rewards.solution_sets import as_interval
from openrlhf_math.rewards.statement import read
from openrlhf_math.rewards.tokens import RELATION, is_grouped, split

SPEAKS_OF_CONSTANTS = re.compile(r"\bconstants?\b|general solution|antiderivative")
_PARAMETER = re.compile(r"\A ?([a-zA-Z])( ?\\in ?\\mathbb ?\{ ?[A-Z] ?\}) ?\Z")
_CONSTANTS = {letter: re.compile(rf"(?<![a-zA-Z\\]){letter}(?![_(]|[a-df-zA-Z]|e[a-zA-Z])") for letter in "cC"}


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
        if SPEAKS_OF_CONSTANTS.search(problem) and (renamed := _with_gold_constant(gold, answer)):
            return _same(first, read(renamed, problem))
    except (Unreadable, RecursionError):
        pass
    return False


def _with_gold_constant(gold: str, answer: str) -> str | None:
    """The answer with `C` for the gold's `c`, or the other way round, where the problem speaks of a constant."""
    for mine, other in ("cC", "Cc"):
        letter, wanted = _CONSTANTS[mine], _CONSTANTS[other]
        if letter.search(gold) and not wanted.search(gold) and wanted.search(answer) and not letter.search(answer):
            return wanted.sub(mine, answer)
    return None


def _same(gold: Statement, answer: Statement, depth: int = 0) -> bool:
    if depth > 6:
        return False
    if isinstance(gold, Pieces) or isinstance(answer, Pieces):
        return (
            isinstance(gold, Pieces)
            and isinstance(answer, Pieces)
            and same_pieces(gold, answer, lambda one, other: _same(one, other, depth + 1), equivalent, read)
        )
    if isinstance(gold, Where) or isinstance(answer, Where):
        return _same_where(gold, answer, depth)
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return _same_relation(gold, answer, depth)
    if isinstance(gold, Tagged) or isinstance(answer, Tagged):
        return same_tagged(gold, answer, lambda one, other: _same(one, other, depth + 1))
    if isinstance(gold, Expression) and isinstance(answer, Expression):
        if "±" in symbols(gold.tree) | symbols(answer.tree):
            golds, answers = both_signs(gold), both_signs(answer)
            return len(golds) == len(answers) and _matched(golds, answers, depth + 1)
        return same_expression(gold, answer)
    if isinstance(gold, Items) and gold.kind == "list" and isinstance(answer, Region) and _repeats_an_item(gold):
        return False
    gold_region, answer_region = _region(gold, answer), _region(answer, gold)
    if gold_region is not None and answer_region is not None:
        return same_region(gold_region, answer_region)
    return _same_items(gold, answer, depth)


def _same_where(gold: Statement, answer: Statement, depth: int) -> bool:
    gold_main, gold_conditions = (gold.main, gold.conditions) if isinstance(gold, Where) else (gold, ())
    answer_main, answer_conditions = (answer.main, answer.conditions) if isinstance(answer, Where) else (answer, ())
    if gold_conditions and answer_conditions:
        if isinstance(answer, Where) and (renamed := _with_gold_parameter(gold_conditions, answer)):
            answer_main, answer_conditions = renamed.main, renamed.conditions
        if len(gold_conditions) != len(answer_conditions):
            return False
        if not all(map(equivalent, sorted(gold_conditions), sorted(answer_conditions))):
            return False
    elif not all(map(_is_readable, answer_conditions)):
        return False
    return _same(gold_main, answer_main, depth + 1)


def _is_readable(condition: str) -> bool:
    """Whether a condition is read as a whole: `k \\in \\mathbb{Z}`, `x > 0`, `0 < t < 2\\pi`."""
    if _PARAMETER.match(condition):
        return True
    if "\\text" in condition:
        return False
    for side in split(condition, RELATION)[0]:
        try:
            read(side)
        except Unreadable:
            return False
    return True


def _with_gold_parameter(conditions: tuple[str, ...], answer: Where) -> Where | None:
    r"""`n\pi, n \in \mathbb{Z}` with the gold's letter, `k\pi, k \in \mathbb{Z}`; None if that is not a renaming."""
    mine, other = (_PARAMETER.match(one[0]) if len(one) == 1 else None for one in (conditions, answer.conditions))
    if not (mine and other) or mine[1] == other[1]:
        return None
    main = answer.main
    if isinstance(main, Relation) and is_named(main):
        main = read(main.texts[1])
    renamed = _substituted(main, other[1], mine[1])
    return None if renamed is None else Where(renamed, (f"{mine[1]}{other[2]}",))


def _same_relation(gold: Statement, answer: Statement, depth: int) -> bool:
    if isinstance(gold, Relation) and isinstance(answer, Relation):
        return _both_relations(gold, answer, depth)
    if isinstance(gold, Items) and gold.kind == "list" and len(shared := _one_value_for_several(answer)) > 1:
        return _matched(written_out(gold), shared, depth)
    if isinstance(gold, Relation):
        if _says_value(gold) and _same(read(gold.texts[-1]), answer, depth + 1):
            return True
        return isinstance(answer, Items) and gold.is_equation and _same_items(gold, answer, depth)
    return isinstance(answer, Relation) and _value_of(gold, answer, depth)


def _one_value_for_several(answer: Statement) -> list[Relation]:
    r"""`\angle A = \angle B = 90^\circ`: each name with the value."""
    if not isinstance(answer, Relation) or not answer.is_equation or not all(map(names_something, answer.texts[:-1])):
        return []
    return [Relation((name, answer.texts[-1]), ("=",)) for name in answer.texts[:-1]]


def _says_value(relation: Relation) -> bool:
    r"""A named value, or a quantity and its number: `\tan x = \frac12`."""
    if is_named(relation):
        return True
    if relation.signs != ("=",) or not is_quantity(relation.texts[0]):
        return False
    return not symbols_of(read(relation.texts[1]))


def _value_of(gold: Statement, answer: Relation, depth: int) -> bool:
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


def _only_names(answer: Relation, place: int, statement: Statement | None, gold: Statement, zero: bool) -> bool:
    """Whether a side says what the value is of: a name at either end, or a quantity before a value that is not 0."""
    text = answer.texts[place]
    if place in (0, len(answer.texts) - 1) and names_something(text):
        return True
    if place or zero or not is_quantity(text):
        return False
    return not isinstance(statement, Expression) or bool(symbols(statement.tree)) and not symbols_of(gold)


def _read_or_none(text: str) -> Statement | None:
    try:
        return read(text)
    except Unreadable:
        return None


def _rounded(gold: Statement, statement: Statement | None, signs: tuple[str, ...], place: int) -> bool:
    r"""Whether a further side is the gold rounded: `\sqrt{2} = 1.41\ldots`, `\sqrt{13} \approx 3.61`."""
    if not place or not isinstance(gold, Expression) or not isinstance(statement, Expression) or not statement.decimal:
        return False
    return signs[place - 1] == "~" and rounds_to(gold.tree, statement, 0)


def _goes_on(gold: Statement, text: str) -> bool:
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
    if is_named(gold) and is_named(answer):
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
            and is_named(gold)
            and names_something(answer.texts[0])
            and key(answer.texts[0]) == key(gold.texts[0])
        ):
            return _value_of(read(gold.texts[1]), answer, depth + 1)
        return False
    if is_named(gold) and names_something(answer.texts[0]) and _of_function(gold.texts[0], answer.texts[0]):
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


def _substituted(statement: Statement, name: str, new: str) -> Expression | None:
    if not isinstance(statement, Expression) or new in symbols(statement.tree):
        return None
    return Expression(replaced(statement.tree, ("s", name), ("s", new)), statement.measure, statement.percent)


def same_equation(gold: tuple[str, ...], answer: tuple[str, ...]) -> bool:
    """Whether two equations are multiples of each other: left minus right has a constant ratio that is not 0."""
    first, second = _difference(gold), _difference(answer)
    if first is None or second is None:
        return False
    second = aligned(first, second)
    if symbols(first) != symbols(second) or not symbols(first):
        return False
    ratio = None
    for one, other in values_at_points(first, second):
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


def _region(statement: Statement, other: Statement) -> Region | None:
    if isinstance(statement, Region):
        return statement
    if isinstance(statement, Items):
        if statement.kind == "tuple":
            return as_interval(statement) if isinstance(other, Region) else None
        if statement.kind == "list" and isinstance(other, Region) and not other.finite:
            found = [region for item in statement.items if (region := _region(item, other)) is not None]
            return joined(found) if len(found) == len(statement.items) else None
        if isinstance(other, Region) and other.finite:
            return _numbers(statement)
    if isinstance(statement, Expression) and isinstance(other, Region) and other.finite:
        return _numbers(Items("set", (statement,)))
    return None


def _numbers(items: Items) -> Region | None:
    found, flat = [], written_out(items)
    names = names_of(flat)
    if len(names) > 1:
        return None
    for item in without_names(flat):
        if not isinstance(item, Expression) or item.measure or symbols(item.tree):
            return None
        try:
            found.append(value(item.tree, {}))
        except (Undefined, Unreadable):
            return None
    if any(isinstance(one, tuple) for one in found) or not all(map(is_real, found)):
        return None
    return points([mpmath.re(one) for one in found]).named(next(iter(names), None))


def _same_items(gold: Statement, answer: Statement, depth: int) -> bool:
    if isinstance(gold, Region) or isinstance(answer, Region):
        return False
    golds, answers = written_out(gold), written_out(answer)
    if len(answers) > 1 and kind_of(answer) == "tuple":
        answer = Items("list", tuple(answers))
    if len(golds) > 1 and kind_of(gold) == "tuple":
        gold = Items("list", tuple(golds))
    kinds = kind_of(gold), kind_of(answer)
    if kinds == ("tuple", "tuple") and isinstance(gold, Items) and isinstance(answer, Items):
        return gold.brackets == answer.brackets and _in_order(gold.items, answer.items, depth)
    if kinds[0] == "tuple" or kinds[1] == "tuple":
        return _tuple_and_other(gold, answer, depth)
    if kinds[0] == "one" and len(golds) == 1:
        return _repeats(golds, answers, depth)
    if kinds[1] == "one" and len(answers) == 1 and len(golds) > 1:
        return _all_the_same(golds, answers[0], depth)
    return _matched(golds, answers, depth)


def _repeats_an_item(items: Items) -> bool:
    """`16, 3, 1, 1`, which a set is not."""
    return any(item in items.items[:place] for place, item in enumerate(items.items))


def _repeats(golds: Sequence[Statement], answers: Sequence[Statement], depth: int) -> bool:
    """`17, 17`, `\\frac14 \\text{ or } 0.25` for one value: the same thing several times."""
    return all(_same(golds[0], answer, depth + 1) for answer in answers)


def _all_the_same(golds: Sequence[Statement], answer: Statement, depth: int) -> bool:
    r"""`\angle A = 90, \angle B = 90` and the one value of both."""
    named = [gold for gold in golds if isinstance(gold, Relation) and is_named(gold)]
    if len(named) < len(golds) or isinstance(answer, Relation):
        return False
    return all(_same(read(gold.texts[1]), answer, depth + 1) for gold in named)


def _in_order(golds: Sequence[Statement], answers: Sequence[Statement], depth: int) -> bool:
    return len(golds) == len(answers) and all(
        _same(one, other, depth + 1) for one, other in zip(golds, answers, strict=True)
    )


def _tuple_and_other(gold: Statement, answer: Statement, depth: int) -> bool:
    if isinstance(gold, Items) and gold.kind == "tuple":
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
    if not isinstance(answer, Items):
        return False
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
        row = tuple(one.tree for one in inner if isinstance(one, Expression) and not one.measure)
        if len(row) < len(inner):
            return False
        rows.append(row)
    if len({len(row) for row in rows}) != 1:
        return False
    column = ("m", tuple(rows))
    return same_trees(column, tree) or len(rows[0]) == 1 and same_trees(("m", (tuple(row[0] for row in rows),)), tree)


def _matched(golds: Sequence[Statement], answers: Sequence[Statement], depth: int) -> bool:
    """Whether each item on either side has an equal one on the other; order and repetition do not count."""
    if len(golds) > 100 or len(answers) > 100 or len(answers) > 2 * len(golds) + 2:
        return False
    names, others = names_of(golds), names_of(answers)
    if len(names) > 1 and len(names) == len(golds):
        return _matched_by_name(golds, answers, depth)
    if others and (names and not others <= names or not names and len(others) > 1 and len(others) < len(answers)):
        return False
    golds, answers = without_names(golds), without_names(answers)
    found: Counter[int] = Counter()
    for answer in answers:
        place = next((place for place, gold in enumerate(golds) if _same(gold, answer, depth + 1)), None)
        if place is None:
            return False
        found[place] += 1
    if any(found[golds.index(gold)] < golds.count(gold) for gold in golds if golds.count(gold) > 1):
        return False  # `16, 3, 1, 1` has four numbers
    return all(
        place in found or any(_same(gold, golds[other], depth + 1) for other in found)
        for place, gold in enumerate(golds)
    )


def _matched_by_name(golds: Sequence[Statement], answers: Sequence[Statement], depth: int) -> bool:
    """`a = 1, b = 2`: the same values under the same names, or the values alone in the order of the names."""
    if names_of(answers):
        if len(names_of(answers)) != len(answers) or len(answers) != len(golds):
            return False
        return all(any(_same(gold, answer, depth + 1) for answer in answers) for gold in golds)
    named = by_name(Items("list", tuple(golds)))
    return named is not None and _in_order(named, answers, depth)
