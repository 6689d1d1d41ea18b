"""Splitting a text where a sign stands outside all brackets. Every function is linear in the text's length."""

import re

RELATION = re.compile(  # `5!=120` has a factorial
    r"\\(?:leqslant|geqslant|leq?|geq?|lt|gt|neq?|notin|in|equiv|approx)(?![a-zA-Z])|<=|>=|(?<![0-9)}])!=|[=<>]"
)
SIGNS = {
    "\\leq": "<=", "\\le": "<=", "\\leqslant": "<=", "\\geq": ">=", "\\ge": ">=", "\\geqslant": ">=", "\\lt": "<",
    "\\gt": ">", "\\neq": "!=", "\\ne": "!=", "\\in": "in", "\\notin": "notin", "\\equiv": "=", "\\approx": "~",
}  # fmt: skip
TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_GROUPED = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")
_CONSTANT = re.compile(r"\A(?:[a-df-hj-zA-Z]|\\(?:alpha|beta|gamma|theta|lambda|mu))\Z")


def split(text: str, pattern: re.Pattern) -> tuple[list[str], list[str]]:
    """The parts of a text between matches outside all brackets, and the matches. Linear in the text's length."""
    parts, signs, start, depth, place = [], [], 0, 0, 0
    for match in pattern.finditer(text):
        depth += _opened(text, place, match.start())
        place = match.start()
        if depth == 0:
            parts.append(text[start : match.start()].strip())
            signs.append(match[0])
            start = match.end()
    return [*parts, text[start:].strip()], signs


def _opened(text: str, start: int, end: int) -> int:
    piece = text[start:end]
    return sum(map(piece.count, "([{")) - sum(map(piece.count, ")]}"))


def is_bare(text: str) -> bool:
    return bool(_CONSTANT.match(text))


def is_grouped(text: str) -> bool:
    return bool(_GROUPED.fullmatch(text.strip("-+ ").partition(".")[0]))


def without_groups(text: str) -> str:
    return _GROUPED.sub(lambda match: match[0].replace(",", ""), text) if "," in text else text


COMMA = re.compile(r"[,;]")


def closes(text: str) -> bool:
    depth = 0
    for index, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if depth <= 0:
            return index == len(text) - 1
    return False
