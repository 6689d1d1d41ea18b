r"""The region of the real line that a text means: `[2, 3)`, `x > 2`, `\mathbb{R} \setminus \{0\}`."""

import re
from fractions import Fraction

import mpmath

from openrlhf_math.rewards import regions
from openrlhf_math.rewards.evaluate import MpNumber, Undefined, is_real, symbols, value
from openrlhf_math.rewards.kinds import Expression, Items, Relation
from openrlhf_math.rewards.latex import Unreadable, parse
from openrlhf_math.rewards.regions import Region
from openrlhf_math.rewards.tokens import COMMA, RELATION, TURNED, closes, is_bare, split, without_groups

BUILDER = re.compile(r"\\mid(?![a-zA-Z])|\||:")


def number(text: str) -> mpmath.mpf:
    """The real number a text denotes, plus and minus infinity included. Raises Unreadable."""
    tree = parse(without_groups(text))
    if tree == ("c", "oo"):
        return regions.INFINITY
    if tree == ("*", (("n", Fraction(-1)), ("c", "oo"))):
        return -regions.INFINITY
    if symbols(tree):
        raise Unreadable("no number")
    try:
        found = value(tree, {})
    except Undefined as error:
        raise Unreadable(str(error)) from None
    if isinstance(found, tuple) or not is_real(found):
        raise Unreadable("no real number")
    return mpmath.re(found)


def as_region(relation: Relation | None) -> Region | None:
    """The region of a relation that is solved: a bare variable, or its distance from a number, between numbers."""
    if relation is None:
        return None
    if relation.signs == ("!=",) and "\\pm" in relation.texts[1]:
        both = [Relation((relation.texts[0], relation.texts[1].replace("\\pm", sign)), ("!=",)) for sign in "+-"]
        halves = [half for one in both if (half := as_region(one)) is not None]
        return regions.common(halves) if len(halves) == 2 else None
    found: list[Region] = []
    texts, signs = relation.texts, relation.signs
    if len(signs) == 1 and signs[0] in ("in", "notin"):
        if not is_bare(texts[0]):
            return None
        inner = region_of(texts[1])
        if inner is None:
            return None
        inner = regions.without(regions.EVERYTHING, inner) if signs[0] == "notin" else inner
        return inner.named(texts[0])
    names = [(index, found_in) for index, text in enumerate(texts) if (found_in := _variable_in(text))]
    if len(names) != 1 or not set(signs) <= set(TURNED):
        return None
    place, (variable, centre, distance) = names[0]
    try:
        for index, sign in enumerate(signs):
            if index not in (place - 1, place):
                low, high = number(texts[index]), number(texts[index + 1])
                if not _holds(low, sign, high):
                    return None
                continue
            bound = number(texts[index + 1] if index == place else texts[index])
            side = _bounded(sign if index == place else TURNED[sign], bound, centre, distance)
            if side is None:
                return None
            found.append(side)
    except Unreadable:
        return None
    return regions.common(found).named(variable)


def _variable_in(text: str) -> tuple[str, mpmath.mpf, bool] | None:
    """`x`, `|x|` or `|x-3|`: the variable, the centre, and whether a distance is meant."""
    text = text.strip()
    if is_bare(text):
        return text, mpmath.mpf(0), False
    if text.startswith("|") and text.endswith("|") and len(text) > 2:
        tree = parse(text[1:-1]) if "|" not in text[1:-1] else ("n", Fraction(0))
        if tree[0] == "s":
            return tree[1], mpmath.mpf(0), True
        if tree[0] == "+" and len(tree[1]) == 2 and tree[1][0][0] == "s" and not symbols(tree[1][1]):
            try:
                centre = -value(tree[1][1], {})
            except (Undefined, TypeError):  # TypeError: a matrix
                return None
            if not is_real(centre):
                return None  # `|z+i|` is a distance in the plane
            return tree[1][0][1], mpmath.re(centre), True
    return None


def _bounded(sign: str, bound: MpNumber, centre: MpNumber, distance: bool) -> Region | None:
    infinite = abs(bound) == regions.INFINITY
    if sign in ("=", "!="):
        if infinite or distance:
            return None
        only = regions.points([bound])
        return only if sign == "=" else regions.without(regions.EVERYTHING, only)
    closed = sign in ("<=", ">=") and not infinite
    if not distance:
        low, high = (-regions.INFINITY, bound) if sign[0] == "<" else (bound, regions.INFINITY)
        return regions.interval(low, high, closed, closed)
    if infinite or bound < 0:
        return None
    near = regions.interval(centre - bound, centre + bound, sign in ("<=", ">"), sign in ("<=", ">"))
    return near if sign[0] == "<" else regions.without(regions.EVERYTHING, near)


def _holds(low: MpNumber, sign: str, high: MpNumber) -> bool:
    return {"<": low < high, "<=": low <= high, ">": low > high, ">=": low >= high, "=": low == high}.get(sign, False)


def region_of(text: str) -> Region | None:
    """The region of a set expression; None if it is none. Raises Unreadable for one that is broken."""
    text = text.strip()
    parts, signs = split(text, _SET_MINUS)
    if len(parts) > 1:
        found = [region for part in parts if part and (region := region_of(part)) is not None]
        if len(found) < len(parts):
            return None
        region = found[0]
        for sign, other in zip(signs, found[1:], strict=True):
            if sign == "\\cup":
                region = regions.joined([region, other])
            elif sign == "\\cap":
                region = regions.common([region, other])
            else:
                region = regions.without(region, other)
        return region
    if text in ("\\mathbb{R}", "\\mathbb R", "\\R"):
        return regions.EVERYTHING
    if half := _HALF_LINES.get(text.replace(" ", "").replace("{", "").replace("}", "")):
        return half
    if text in ("\\emptyset", "\\{ \\}", "\\{\\}"):
        return regions.NOTHING
    if text.startswith("\\{") and text.endswith("\\}") and closes(text[1:-2] + "}"):
        return _described(text[2:-2].strip())
    return bracketed(text)


_SET_MINUS = re.compile(r"\\(?:cup|cap|setminus|backslash)(?![a-zA-Z])|(?<=R\})-|(?<=R\} )-")


_HALF_LINES = {
    "\\mathbbR^+": regions.interval(mpmath.mpf(0), regions.INFINITY, False, False),
    "\\mathbbR^+_0": regions.interval(mpmath.mpf(0), regions.INFINITY, True, False),
    "\\mathbbR_0^+": regions.interval(mpmath.mpf(0), regions.INFINITY, True, False),
    "\\mathbbR^-": regions.interval(-regions.INFINITY, mpmath.mpf(0), False, False),
    "\\mathbbR^-_0": regions.interval(-regions.INFINITY, mpmath.mpf(0), False, True),
    "\\mathbbR_0^-": regions.interval(-regions.INFINITY, mpmath.mpf(0), False, True),
}


def _described(inner: str) -> Region | None:
    r"""`x \mid x > 2`, `x \in \mathbb{R} : x \ne 0`, or numbers `1, 2, 3`."""
    from openrlhf_math.rewards.statement import read  # which reads regions with this module

    parts, signs = split(inner, BUILDER)
    if len(parts) > 1 and parts[0] and not inner.startswith("|"):
        parts = [parts[0], inner[inner.index(signs[0]) + len(signs[0]) :].strip()]
        head = split(parts[0], RELATION)[0]
        if not is_bare(head[0]) or len(head) == 2 and head[1] not in ("\\mathbb{R}", "\\mathbb R"):
            return None
        try:
            found = read(parts[1])
        except Unreadable:
            return None
        if not isinstance(found, Region) or found.variable != head[0]:
            return None
        return found.named(None)
    try:
        numbers = [number(part) for part in split(inner, COMMA)[0]] if inner else []
    except Unreadable:
        return None
    return regions.points(numbers) if all(abs(one) != regions.INFINITY for one in numbers) else None


def bracketed(text: str) -> Region | None:
    if text[:1] not in ("(", "[", "]") or text[-1:] not in (")", "]", "["):
        return None
    parts, _ = split(text[1:-1], COMMA)
    if len(parts) != 2:
        return None
    try:
        low, high = map(number, parts)
    except Unreadable:
        return None
    closed_low, closed_high = text[0] == "[", text[-1] == "]"
    if not low < high and not (low == high and closed_low and closed_high):
        return None
    if abs(low) == regions.INFINITY and closed_low or abs(high) == regions.INFINITY and closed_high:
        return None
    return regions.interval(low, high, closed_low, closed_high)


def as_interval(items: Items) -> Region | None:
    """The interval that brackets around two numbers may mean."""
    if items.kind != "tuple" or len(items.items) != 2:
        return None
    ends = []
    for item in items.items:
        if not isinstance(item, Expression) or item.measure:
            return None
        if item.tree == ("c", "oo"):
            ends.append(regions.INFINITY)
        elif item.tree == ("*", (("n", Fraction(-1)), ("c", "oo"))):
            ends.append(-regions.INFINITY)
        elif symbols(item.tree):
            return None
        else:
            try:
                found = value(item.tree, {})
            except (Undefined, Unreadable):
                return None
            if isinstance(found, tuple) or not is_real(found):
                return None
            ends.append(mpmath.re(found))
    low, high = ends
    closed = items.brackets[0] == "[", items.brackets[1] == "]"
    if closed[0] and low == -regions.INFINITY or closed[1] and high == regions.INFINITY:
        return None
    return regions.interval(low, high, *closed) if low < high else None
