r"""The outer shape of an answer: one value, or several and how they are held together.

`3, 5` and `3 \text{ or } 5` are a list, `\{3, 5\}` a set (order does not matter in either), `(3, 5)`, `[3, 5]` and
`[3, 5)` are held in brackets (order matters).
"""

import re
from dataclasses import dataclass

_OPEN, _CLOSE = "([{", ")]}"
_JOINT = re.compile(
    r"\\text[a-z]{0,8} ?\{ ?(?:, ?)?(?:or|and) ?\}|(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z])|\\(?:lor|vee)(?![a-zA-Z])",
    re.IGNORECASE,
)
_OPENED = re.compile(r"\A\\begin\{[pbB]?matrix\}")
_CLOSED = re.compile(r"\\end\{[pbB]?matrix\}")
_CELL = re.compile(r"&|\\\\")
_EQUALS = re.compile(r"(?<![<>:=\\])(?<![^0-9)}]!)=(?!=)")  # `5!=120` has a factorial


@dataclass(frozen=True, slots=True)
class Shape:
    """`kind` is "one", "list", "set" or "brackets"; `brackets` the opening and closing sign."""

    kind: str
    items: tuple[str, ...]
    brackets: str = ""


def shape(text: str) -> Shape:
    """Read the outer shape of a tidied text."""
    if text.startswith(r"\{") and text.endswith(r"\}") and _closes_at_end(text[1:-2] + "}"):
        return Shape("set", tuple(item for item in split(text[2:-2], ",") if item))
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and _closes_at_end(text):
        items = split(text[1:-1], ",")
        if len(items) > 1:
            return Shape("brackets", tuple(items), text[0] + text[-1])
    joined = _JOINT.sub(",", text)
    items = [item for item in split(joined, ",;") if item]
    return Shape("list", tuple(items)) if len(items) > 1 else Shape("one", (text,))


def entries(text: str) -> tuple[str, ...]:
    """The items of a list, a set or brackets, or the entries of a matrix; a value alone is its own only entry."""
    opened, closed = _OPENED.match(text), _CLOSED.search(text)
    if not (opened and closed and closed.end() == len(text)):
        return shape(text).items
    return tuple(part.strip() for part in _CELL.split(text[opened.end() : closed.start()]))


def sides(text: str) -> list[str]:
    """The sides of an equation: `x = 2+3 = 5` -> `x`, `2+3`, `5`. One side if there is no equals sign."""
    return [side.strip() for side in _EQUALS.split(text)] if "=" in text else [text]


def split(text: str, separators: str) -> list[str]:
    """Split where a separator is outside all brackets and LaTeX environments."""
    parts, depth, start = [], 0, 0
    for index, sign in enumerate(text):
        if sign in _OPEN:
            depth += 1
        elif sign in _CLOSE:
            depth -= 1
        elif depth == 0 and sign in separators and text[index - 1 : index] != "\\":
            parts.append(text[start:index].strip())
            start = index + 1
    parts.append(text[start:].strip())
    return parts


def _closes_at_end(text: str) -> bool:
    """Whether the bracket that opens the text is closed by its last sign; `[1, 2)` closes, `(1, 2) (3, 4)` does not."""
    depth = 0
    for index, sign in enumerate(text):
        depth += (sign in _OPEN) - (sign in _CLOSE)
        if depth <= 0:
            return index == len(text) - 1
    return False
