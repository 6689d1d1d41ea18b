r"""A function in pieces, `\begin{cases} x^2 & x \ge 0 \\ -x & x < 0 \end{cases}`.

Two are the same if each piece of one has its values and its condition in a piece of the other, in whatever order.
"""

import re
from collections.abc import Callable

from openrlhf_math.rewards import regions
from openrlhf_math.rewards.kinds import Pieces, Statement
from openrlhf_math.rewards.notation import key, unstyled
from openrlhf_math.rewards.regions import Region
from openrlhf_math.rewards.tokens import RELATION, Unreadable

OTHERWISE = "otherwise"
MAX_PIECES = 20
_BEGIN = re.compile(r"\\begin ?\{[dr]?cases\}")
_END = re.compile(r" ?\\end ?\{[dr]?cases\}\Z")
_WORD = re.compile(
    r",? ?\\text[a-z]{0,4} ?\{[ ,]{0,2}(?=(?:if|for|when|where|otherwise|else|elsewhere)\b)", re.IGNORECASE
)
_NAME = re.compile(
    r"\A(?:[A-Za-z]|\\[a-z]{2,8})'{0,2}(?:_(?:[A-Za-z0-9]|\{[^{}]{1,20}\}))? ?(?:\( ?[a-zA-Z](?: ?, ?[a-zA-Z])? ?\))?\Z"
)
_LEAD = re.compile(r"\A(?:if|for|when|where|provided that|provided|on) ", re.IGNORECASE)
_LAST = re.compile(r"\A(?:otherwise|else|elsewhere|in (?:all )?other cases)\Z", re.IGNORECASE)
_IS = re.compile(r" is (?=[a-z])")

Same = Callable[[Statement, Statement], bool]


def read_pieces(text: str, read: Callable[[str], Statement]) -> Statement | None:
    """The statement of a text in `cases`, None where there is no such text. Raises Unreadable."""
    begin, end = _BEGIN.search(text), _END.search(text)
    if not begin:
        return None
    name, equals, rest = text[: begin.start()].rstrip().partition("=")
    if not end or rest.strip() or bool(name.strip()) != bool(equals) or name.strip() and not _NAME.match(name.strip()):
        raise Unreadable("pieces within something else")
    body = text[begin.end() : end.start()]
    if "\\begin" in body:
        raise Unreadable("pieces within pieces")
    rows = [row.strip(" ,;") for row in body.split("\\\\")]
    rows = [row for row in rows if row]
    if not rows or len(rows) > MAX_PIECES:
        raise Unreadable("no pieces, or too many")
    parts = [_parts(row) for row in rows]
    if not any(condition for _, condition in parts):
        raise Unreadable("values without conditions")
    conditions = [_plain(condition) for _, condition in parts]
    if not all(conditions) or len(set(conditions)) < len(conditions):
        raise Unreadable("pieces without a condition, or with one condition")
    return Pieces(name.strip(), tuple((read(value), one) for (value, _), one in zip(parts, conditions, strict=True)))


def _parts(row: str) -> tuple[str, str]:
    r"""The value and the condition of a row, "" without one: `x, & x > 0`, `x \text{ if } x > 0`, `x, x > 0`."""
    if row.count("&") == 1 and not RELATION.search(row.partition("&")[0]):
        value, _, condition = row.partition("&")
    elif word := _WORD.search(row):
        value, condition = row[: word.start()], row[word.start() :]
    else:
        value, _, condition = row.rpartition(",")
        if not value or RELATION.search(value) or not RELATION.search(condition) or "&" in row:
            return row, ""
    return value.strip(" ,;"), condition.strip(" ,;.")


def _plain(condition: str) -> str:
    r"""A condition without `\text{if }`: `x > 0`, `n even`, `otherwise`."""
    plain = _LEAD.sub("", unstyled(condition).strip(" ,;.()" if "," not in condition else " ,;.")).strip()
    return OTHERWISE if _LAST.match(plain) else _IS.sub(" ", plain)


def same_pieces(
    gold: Pieces, answer: Pieces, same: Same, equivalent: Callable[[str, str], bool], read: Callable
) -> bool:
    """Whether two functions have the same pieces, and the same name if both name one."""
    if len(gold.pieces) != len(answer.pieces) or gold.name and answer.name and key(gold.name) != key(answer.name):
        return False
    golds, answers = _conditions(gold, read), _conditions(answer, read)
    left = list(range(len(answers)))
    for (wanted, _), condition in zip(gold.pieces, golds, strict=True):
        found = next((place for place in left if _same_condition(condition, answers[place], equivalent)), None)
        if found is None or not same(wanted, answer.pieces[found][0]):
            return False
        left.remove(found)
    return True


def _conditions(function: Pieces, read: Callable[[str], Statement]) -> list[Region | str]:
    """Conditions as regions where they are regions; "otherwise" as what the others leave."""
    found: list[Region | str] = []
    for _, condition in function.pieces:
        try:
            statement = read(condition)
        except Unreadable:
            statement = None
        found.append(statement if isinstance(statement, Region) else condition)
    known = [one for one in found if isinstance(one, Region)]
    if OTHERWISE in found and len(known) == len(found) - 1:
        taken = regions.joined(known)
        found[found.index(OTHERWISE)] = regions.without(regions.EVERYTHING, taken).named(taken.variable)
    return found


def _same_condition(one: Region | str, other: Region | str, equivalent: Callable[[str, str], bool]) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return equivalent(one, other)
    return isinstance(one, Region) and isinstance(other, Region) and regions.same_region(one, other)
