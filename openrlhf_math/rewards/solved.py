r"""A relation that is still to be solved: `x+1 < 4` where the gold is `x < 3`, `x-3 = 0` where it is `x = 3`.

The symbolic comparison would solve it for the policy. Solved is a relation with a bare variable on one side that
occurs on no other, as in `-2 < x < 2`, or its absolute value, `|x| < 2`.
"""

import re

from openrlhf_math.rewards.shape import shape

_SIGN = re.compile(r"\\(?:leq?|geq?|lt|gt|neq?)(?![a-zA-Z])|[<>=]")
_BARE = re.compile(
    r"\A ?(?:\| ?)?((?:[a-zA-Z]|\\(?:theta|alpha|beta|gamma|lambda|mu|phi|omega))(?:_\{?\w{1,20}\}?)?)"
    r"(?: ?[+-] ?[0-9.]{1,20} ?(?=\|))?(?:\|)? ?\Z"
)
_BARE_TUPLE = re.compile(r"\A ?\([a-zA-Z](?: ?, ?[a-zA-Z]){1,9}\) ?\Z")
_BUILDER = re.compile(r"\\mid(?![a-zA-Z])|:|\|")
_VARIABLE = re.compile(r"(?<![a-zA-Z\\])[a-df-hj-zA-Z](?![a-zA-Z])")


def still_to_solve(gold: str, answer: str) -> bool:
    """Whether the gold is solved and the answer is a relation that is not, both tidied."""
    return bool(_SIGN.search(answer)) and _settled(gold) and not _solved(answer)


def _settled(gold: str) -> bool:
    """Whether the gold gives values: it has no variables but those it is solved for."""
    values = (side for sides in _relations(gold) for side in sides if len(sides) == 1 or not _BARE.match(side))
    return _solved(gold) and not any(map(_VARIABLE.search, values))


def _solved(text: str) -> bool:
    return all(len(sides) == 1 or _isolated(sides) for sides in _relations(text))


def _isolated(sides: list[str]) -> bool:
    for side in sides:
        if _BARE_TUPLE.match(side):
            return True
        name = _BARE.match(side)
        if name:
            return sum(_occurs(name[1], other) for other in sides) == 1
    return False


def _occurs(name: str, text: str) -> bool:
    """Whether a text has the variable, not as a part of a longer word or command."""
    start = text.find(name)
    while start >= 0:
        before, after = text[start - 1 : start], text[start + len(name) : start + len(name) + 1]
        if not (before.isalpha() or before == "\\" or after.isalpha()):
            return True
        start = text.find(name, start + 1)
    return False


def _relations(text: str) -> list[list[str]]:
    if text.startswith(r"\{") and text.endswith(r"\}"):
        text = _BUILDER.split(text[2:-2], maxsplit=1)[-1]
    outer = shape(text)
    return [_SIGN.split(item) for item in (outer.items if outer.kind == "list" else (text,))]
