r"""What an answer says: a value with its unit, a relation, a list, a set, a tuple, a region of the real line, or words.

`read` reads the whole of a tidied text or raises Unreadable.
"""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

import mpmath

from openrlhf_math.rewards import regions
from openrlhf_math.rewards.evaluate import Undefined, is_real, symbols, value
from openrlhf_math.rewards.latex import Unreadable, parse
from openrlhf_math.rewards.measures import Measure, read_measure, unit_of_money
from openrlhf_math.rewards.regions import Region
from openrlhf_math.rewards.words import is_words, meaning

MAX_ITEMS = 100

_JOINT = re.compile(
    r"\\text[a-z]{0,8} ?\{ ?(?:, ?)?(?:or|and) ?\}|(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z])"
    r"|\\(?:lor|vee|wedge|land)(?![a-zA-Z])|[,;]|或|和|、",
    re.IGNORECASE,
)
_RELATION = re.compile(r"\\(?:leqslant|geqslant|leq?|geq?|lt|gt|neq?|notin|in|equiv|approx)(?![a-zA-Z])|<=|>=|!=|[=<>]")
_OTHER_RELATION = re.compile(
    r"\\(?:to|rightarrow|Rightarrow|implies|iff|propto|sim|cong|simeq|mid|nmid|parallel|perp|subset|subseteq|supset|ll|gg"
    r"|leftrightarrow|Leftrightarrow|mapsto|forall|exists|neg|lnot|not|prec|succ)(?![a-zA-Z])"
)
_SIGNS = {
    "\\leq": "<=", "\\le": "<=", "\\leqslant": "<=", "\\geq": ">=", "\\ge": ">=", "\\geqslant": ">=", "\\lt": "<",
    "\\gt": ">", "\\neq": "!=", "\\ne": "!=", "\\in": "in", "\\notin": "notin", "\\equiv": "=", "\\approx": "~",
}  # fmt: skip
TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_SET_SIGN = re.compile(r"\\(?:cup|cap|setminus|backslash)(?![a-zA-Z])")
_BUILDER = re.compile(r"\\mid(?![a-zA-Z])|\||:")
_MODULUS = re.compile(r"(?: ?\(\\?mod|\\[pb]?mod) ?(?:\{ ?([0-9]{1,40}) ?\}|([0-9]{1,40}))\)?\Z")
_BASED = re.compile(
    r"\A\(?([0-9A-Za-z]{1,60})\)?_(?:\{ ?(?:\\text ?\{ ?)?([0-9]{1,2}|[a-z]{2,9}) ?(?:\} ?)?\}|([0-9]))\Z"
)
_CLOCK = re.compile(r"\A([0-9]{1,2}):([0-5][0-9])(?::([0-5][0-9]))? ?([ap]\.? ?m\.?)?\Z", re.IGNORECASE)
_TRAILING_STYLE = re.compile(r"\\(?:text|mathrm|mbox|textrm|operatorname|textit|textbf|rm)(?: ?\{|(?![a-zA-Z]))")
_DECIMAL = re.compile(
    r"\A(-?)([0-9]*)\.([0-9]+)(?: ?(?:\\times|\\cdot|[*x]) ?10 ?\^ ?\{? ?([+-]? ?[0-9]{1,4}) ?\}?)?\Z"
)
_GROUPED = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")
_DEGREES = re.compile(r"\^ ?(?:\{ ?)?\\circ(?: ?\})?")
_CONSTANT = re.compile(r"\A(?:[a-df-hj-zA-Z]|\\(?:alpha|beta|gamma|theta|lambda|mu))\Z")
_DIGITS = {name: base for base, name in enumerate(
    (
        "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    ).split(), 2
)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Expression:
    """One value. `decimal`: its digits behind the point and its significant digits, if it is written as a decimal."""

    tree: tuple
    measure: Measure | None = None
    percent: bool = False
    decimal: tuple[int, int] | None = None
    degrees: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """`a < b <= c`: the sides as texts and as statements (None where one is no statement), and the signs between."""

    texts: tuple[str, ...]
    signs: tuple[str, ...]

    @property
    def is_equation(self) -> bool:
        return set(self.signs) <= {"=", "~"}


@dataclass(frozen=True, slots=True)
class Items:
    """Several statements: `kind` is "list", "set" or "tuple". `joint` is "or", "and" or ","."""

    kind: str
    items: tuple
    brackets: str = ""
    joint: str = ","
    where: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tagged:
    """What is equal only to its own kind: a clock, a ratio, a numeral in a base, a residue, words."""

    kind: str
    content: tuple


@dataclass(frozen=True, slots=True)
class Where:
    """A statement under a condition: `2k\\pi, k \\in \\mathbb{Z}`."""

    main: object
    conditions: tuple[str, ...] = field(default=())


@lru_cache(maxsize=4096)
def read(text: str, problem: str = "") -> object:
    """The statement that a tidied text makes. Raises Unreadable."""
    text = text.strip()
    if not text:
        raise Unreadable("nothing")
    if is_words(text) or not text.isascii() or text.startswith("\\text"):
        found = meaning(text)
        if found is not None:
            return _of_meaning(found)
    if match := _CLOCK.match(_plain(text)):
        half = (match[4] or "").replace(".", "").replace(" ", "").lower()
        return Tagged("clock", (int(match[1]), int(match[2]), int(match[3] or 0), half))
    for reader in (_signed_tuple, _duration, _several, _base, _residue, _ratio, _relation, _set, _tuple):
        found = reader(text, problem)
        if found is not None:
            return found
    return _expression(text, problem)


def _of_meaning(found: tuple) -> object:
    if found == ("nothing",):
        return regions.NOTHING
    if found == ("everything",):
        return regions.EVERYTHING
    if found[0] == "everything but":
        return regions.without(
            regions.EVERYTHING, regions.points([mpmath.mpf(found[1].numerator) / found[1].denominator])
        )
    if found[0] == "number":
        return Expression(("n", found[1]))
    return Tagged("words", found)


def _plain(text: str) -> str:
    return " ".join(text.replace("\\text", "").replace("\\mathrm", "").replace("{", "").replace("}", "").split())


def _signed_tuple(text: str, problem: str) -> Items | None:
    r"""`\pm(1, 2)`: two tuples."""
    if not text.startswith("\\pm") or not text.endswith(")") or not _closes(text[3:].strip()):
        return None
    inner = read(text[3:].strip(), problem)
    if not isinstance(inner, Items) or not all(isinstance(item, Expression) for item in inner.items):
        return None
    minus = tuple(Expression(("*", (("n", Fraction(-1)), item.tree)), item.measure) for item in inner.items)
    return Items("list", (inner, Items("tuple", minus, inner.brackets)))


def _duration(text: str, problem: str) -> Expression | None:
    r"""`2 \text{ hours } 30 \text{ minutes}`, `5 feet 6 inches`: one quantity in several units."""
    plain = (
        " ".join(_unstyled(text).split()) if text[:1].isdigit() and not text[-1:].isdigit() and len(text) < 200 else ""
    )
    found = _PARTS.findall(plain) if _DURATION.match(plain) else []
    measures = [read_measure(unit.strip()) for _, unit in found]
    if (
        len(found) < 2
        or None in measures
        or len({measure.dimension for measure in measures}) > 1
        or not measures[0].dimension
    ):
        return None
    factors = [measure.factor for measure in measures]
    if sorted(factors, reverse=True) != factors or len(set(factors)) < len(factors):
        return None
    total = sum(Fraction(digits) * factor for (digits, _), factor in zip(found, factors, strict=True))
    return Expression(("n", total), Measure(measures[0].dimension))


_DURATION = re.compile(r"\A(?:[0-9]{1,9}(?:\.[0-9]{1,9})? ?[a-zA-Z]{1,12}(?:,? (?:and )?)?){2,4}\Z")
_PARTS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([a-zA-Z]{1,12})")


# -- several --


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


def _several(text: str, problem: str) -> object | None:
    if is_grouped(text):
        return None
    text = _TEXT_WITH_JOINT.sub(r"\\text{\1} \\text{ \2 } ", text)
    text, condition = _without_condition(text)
    if condition:
        return Where(read(text, problem), (condition,))
    parts, signs = split(text, _JOINT)
    if len(parts) == 1:
        return None
    parts = [part.removeprefix("{").strip() if part.count("{") > part.count("}") else part for part in parts]
    if any(not part and not _beside_word(signs, place) for place, part in enumerate(parts)):
        raise Unreadable("an empty item")
    pairs = [(part, sign) for part, sign in zip(parts, ["", *signs], strict=True) if part]
    if len(pairs) == 1:
        return read(pairs[0][0], problem)
    if not pairs or len(pairs) > MAX_ITEMS:
        raise Unreadable("too many items")
    joint = _joint([sign for _, sign in pairs[1:]])
    parts = [part for part, _ in pairs]
    conditions = _conditions(parts) if joint == "," else 0
    if conditions:
        main = ", ".join(parts[:-conditions])
        return Where(read(main, problem), tuple(parts[-conditions:]))
    found = _solved(parts, joint)
    if found is not None:
        return found
    logical = any(sign.startswith("\\l") or "vee" in sign or "wedge" in sign for sign in signs)
    if logical and not all(map(_RELATION.search, parts)):
        raise Unreadable("a formula of logic")
    statements = _with_names(parts, problem)
    return Items("list", tuple(statements), "", joint)


_TEXT_WITH_JOINT = re.compile(r"\\text ?\{ ?([a-zA-Z]{2,20}),? (and|or) ?\}")
_FOR_ALL = re.compile(r",? ?\\text[a-z]{0,4} ?\{,? ?(?:for all|for any|for every|for|where|with|if|when) ?\} ?")


def _without_condition(text: str) -> tuple[str, str]:
    r"""`f(x) = 2x \text{ for all } x > 0`: what is said, and for which values."""
    match = _FOR_ALL.search(text)
    if not match or not match.start() or not _RELATION.search(text[: match.start()]):
        return text, ""
    return text[: match.start()].strip(), text[match.end() :].strip()


def _beside_word(signs: list[str], place: int) -> bool:
    """Whether an empty part stands beside "and" or "or", as in `3, 5, and 7`."""
    return any(sign not in (",", ";") for sign in signs[max(place - 1, 0) : place + 1])


def _joint(signs: list[str]) -> str:
    said = " ".join(signs).lower()
    if "or" in said or "vee" in said or "或" in said:
        return "or"
    return "and" if "and" in said or "land" in said or "wedge" in said else ","


def _conditions(parts: list[str]) -> int:
    """How many of the last parts only say for which values the first ones hold."""
    number = 0
    while number < len(parts) - 1 and _is_condition(parts[-1 - number], parts[: len(parts) - 1 - number]):
        number += 1
    return number


def _is_condition(text: str, before: list[str]) -> bool:
    sides, signs = split(text, _RELATION)
    if len(sides) < 2:
        return False
    first, firsts = split(before[0], _RELATION)
    if any(_SIGNS.get(sign, sign) not in ("=", "~") for sign in firsts):
        return False
    if all(_SIGNS.get(sign, sign) in ("=", "~") for sign in signs):
        return False
    try:
        names = symbols(parse(before[0] if not firsts else first[-1]))
        said = symbols(parse(next(side for side in sides if side)))
    except (Unreadable, StopIteration):
        return False
    return bool(said & names) and (bool(firsts) or not _is_bare(before[0]))


def _is_bare(text: str) -> bool:
    return bool(_CONSTANT.match(text))


def _solved(parts: list[str], joint: str) -> Region | None:
    """`x < -2 or x > 3`, `x > 0, x \\ne 1`: the region that several conditions on one variable leave."""
    found = []
    for part in parts:
        if not _RELATION.search(part) or "=" in part and not re_inequality(part) and joint != "or":
            return None
        region = _as_region(_relation_of(part))
        if region is None:
            return None
        found.append(region)
    if len({region.variable for region in found if region.variable}) > 1 or not any(
        not region.finite for region in found
    ):
        return None
    if joint == "or":
        return regions.joined(found)
    inside = regions.common(found)
    if joint == "," and not any(map(inside.contains, regions.probes(found))):
        return regions.joined(found)
    return inside


def re_inequality(text: str) -> bool:
    _, signs = split(text, _RELATION)
    return any(_SIGNS.get(sign, sign) not in ("=", "~") for sign in signs)


def _with_names(parts: list[str], problem: str) -> list:
    """`x = 3, 5` names both; the others are read one by one."""
    first, signs = split(parts[0], _RELATION)
    if len(first) == 2 and _SIGNS.get(signs[0], signs[0]) == "=" and not any(map(_RELATION.search, parts[1:])):
        return [read(f"{first[0]} = {part}", problem) for part in [first[1], *parts[1:]]]
    return [read(part, problem) for part in parts]


def is_grouped(text: str) -> bool:
    return bool(_GROUPED.fullmatch(text.strip("-+ ").partition(".")[0]))


# -- kinds that are only equal to their own --


def _base(text: str, problem: str) -> Tagged | None:
    match = _BASED.match(text) or _BASED.match(_plain_digits(text))
    if prefixed := _PREFIXED.match(text):
        return Tagged("base", (prefixed[2].upper().lstrip("0") or "0", {"b": 2, "o": 8, "x": 16}[prefixed[1].lower()]))
    if said := _SAID_BASE.match(_plain(text)):
        return Tagged("base", (said[1].upper().lstrip("0") or "0", int(said[2])))
    if not match:
        return None
    digits = match[1].upper()
    base = match[3] or match[2]
    base = _DIGITS.get(base) if base.isalpha() else int(base)
    if base is None or not 2 <= base <= 36 or not digits[0].isalnum():
        return None
    if not any(sign.isdigit() for sign in digits) and base <= 10:
        return None
    if any(int(sign, 36) >= base for sign in digits):
        if not text[0].isdigit():
            return None
        raise Unreadable("a digit that the base has not")
    return Tagged("base", (digits.lstrip("0") or "0", base))


_PREFIXED = re.compile(r"\A0([bBoOxX])([0-9A-Fa-f]{1,60})\Z")
_SAID_BASE = re.compile(r"\A([0-9A-F]{1,60}) ?\(?(?:in )?base ([0-9]{1,2})\)?\Z")


def _plain_digits(text: str) -> str:
    for style in ("\\text{", "\\mathrm{", "\\texttt{"):
        if text.startswith(style):
            inner, closed, rest = text[len(style) :].partition("}")
            return inner + rest if closed else text
    return text


def _residue(text: str, problem: str) -> Tagged | None:
    match = _MODULUS.search(text)
    if not match:
        return None
    before = text[: match.start()].strip()
    sides, signs = split(before, _RELATION)
    if len(sides) > 2 or len(sides) == 2 and _SIGNS.get(signs[0], signs[0]) != "=":
        raise Unreadable("a residue of what")
    name = sides[0].replace(" ", "") if len(sides) == 2 else ""
    return Tagged("residue", (read(sides[-1], problem), int(match[1] or match[2]), name))


def _ratio(text: str, problem: str) -> Tagged | None:
    if said := _SAID_RATIO.match(_plain(text)):
        return Tagged("ratio", tuple(("n", Fraction(part)) for part in said.groups()))
    if ":" not in text:
        return None
    parts, _ = split(text, _COLON)
    if len(parts) < 2 or not all(parts) or any(_RELATION.search(part) for part in parts):
        return None
    return Tagged("ratio", tuple(parse(part) for part in parts))


_SAID_RATIO = re.compile(r"\A([0-9]{1,9}) to ([0-9]{1,9})\Z")
_COLON = re.compile(r"\\colon(?![a-zA-Z])|:")


# -- relations --


def _relation(text: str, problem: str) -> object | None:
    if not _RELATION.search(text):
        if _OTHER_RELATION.search(text) and len(split(text, _OTHER_RELATION)[0]) > 1:
            raise Unreadable("a relation of another kind")
        return None
    if _OTHER_RELATION.search(text) and len(split(text, _OTHER_RELATION)[0]) > 1:
        raise Unreadable("a relation of another kind")
    relation = _relation_of(text)
    if relation is None:
        return None
    if not relation.signs:  # `= 5` says 5
        return read(relation.texts[0], problem)
    region = _as_region(relation) if not relation.is_equation else None
    return relation if region is None else region


def _relation_of(text: str) -> Relation | None:
    parts, signs = split(text, _RELATION)
    if len(parts) == 1:
        return None
    if "" in parts[1:-1] or len(parts) > 12:
        raise Unreadable("a relation without a side")
    signs = [_SIGNS.get(sign, sign) for sign in signs]
    if parts[0] == "" and signs[0] not in ("=", "~"):
        raise Unreadable("a relation without a side")
    if parts[-1] == "":
        raise Unreadable("a relation without a side")
    if parts[0] == "":
        parts, signs = parts[1:], signs[1:]
    return Relation(tuple(parts), tuple(signs))


def number(text: str) -> mpmath.mpf:
    """The real number a text denotes, plus and minus infinity included. Raises Unreadable."""
    tree = parse(_without_groups(text))
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


def _without_groups(text: str) -> str:
    return _GROUPED.sub(lambda match: match[0].replace(",", ""), text) if "," in text else text


def _as_region(relation: Relation | None) -> Region | None:
    """The region of a relation that is solved: a bare variable, or its distance from a number, between numbers."""
    if relation is None:
        return None
    found = []
    texts, signs = relation.texts, relation.signs
    if len(signs) == 1 and signs[0] in ("in", "notin"):
        if not _is_bare(texts[0]):
            return None
        inner = _region_of(texts[1])
        if inner is None:
            return None
        inner = regions.without(regions.EVERYTHING, inner) if signs[0] == "notin" else inner
        return inner.named(texts[0])
    names = [index for index, text in enumerate(texts) if _variable_in(text)]
    if len(names) != 1 or not set(signs) <= set(TURNED):
        return None
    place = names[0]
    variable, centre, distance = _variable_in(texts[place])
    try:
        for index, sign in enumerate(signs):
            if index not in (place - 1, place):
                low, high = number(texts[index]), number(texts[index + 1])
                if not _holds(low, sign, high):
                    return None
                continue
            bound = number(texts[index + 1] if index == place else texts[index])
            found.append(_bounded(sign if index == place else TURNED[sign], bound, centre, distance))
    except Unreadable:
        return None
    return regions.common(found).named(variable) if all(found) else None


def _variable_in(text: str) -> tuple[str, mpmath.mpf, bool] | None:
    """`x`, `|x|` or `|x-3|`: the variable, the centre, and whether a distance is meant."""
    text = text.strip()
    if _is_bare(text):
        return text, mpmath.mpf(0), False
    if text.startswith("|") and text.endswith("|") and len(text) > 2:
        tree = parse(text[1:-1]) if "|" not in text[1:-1] else ("n", Fraction(0))
        if tree[0] == "s":
            return tree[1], mpmath.mpf(0), True
        if tree[0] == "+" and len(tree[1]) == 2 and tree[1][0][0] == "s" and not symbols(tree[1][1]):
            try:
                return tree[1][0][1], -value(tree[1][1], {}), True
            except Undefined:
                return None
    return None


def _bounded(sign: str, bound, centre, distance: bool) -> Region | None:
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


def _holds(low, sign: str, high) -> bool:
    return {"<": low < high, "<=": low <= high, ">": low > high, ">=": low >= high, "=": low == high}.get(sign, False)


# -- sets --


def _set(text: str, problem: str) -> object | None:
    region = (
        _region_of(text)
        if text.startswith("\\{") or _SET_SIGN.search(text) or "\\mathbb" in text or "mptyset" in text
        else None
    )
    if region is not None:
        return region
    if not (text.startswith("\\{") and text.endswith("\\}") and _closes(text[1:-2] + "}")):
        if _SET_SIGN.search(text):
            raise Unreadable("sets that are no regions")
        return None
    inner = text[2:-2].strip()
    parts, signs = split(inner, _BUILDER)
    if len(parts) == 2 and not inner.startswith("|"):
        raise Unreadable("a set that is described")
    parts, _ = split(_without_groups(inner) if is_grouped(inner) else inner, _COMMA)
    if len(parts) > MAX_ITEMS:
        raise Unreadable("too many items")
    return Items("set", tuple(read(part, problem) for part in parts if part))


_COMMA = re.compile(r"[,;]")


def _closes(text: str) -> bool:
    depth = 0
    for index, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if depth <= 0:
            return index == len(text) - 1
    return False


def _region_of(text: str) -> Region | None:
    """The region of a set expression; None if it is none. Raises Unreadable for one that is broken."""
    text = text.strip()
    parts, signs = split(text, _SET_MINUS)
    if len(parts) > 1:
        found = [_region_of(part) if part else None for part in parts]
        if None in found:
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
    if text in ("\\emptyset", "\\{ \\}", "\\{\\}"):
        return regions.NOTHING
    if text.startswith("\\{") and text.endswith("\\}") and _closes(text[1:-2] + "}"):
        return _described(text[2:-2].strip())
    return _interval(text)


_SET_MINUS = re.compile(r"\\(?:cup|cap|setminus|backslash)(?![a-zA-Z])|(?<=R\})-|(?<=R\} )-")


def _described(inner: str) -> Region | None:
    r"""`x \mid x > 2`, `x \in \mathbb{R} : x \ne 0`, or numbers `1, 2, 3`."""
    parts, signs = split(inner, _BUILDER)
    if len(parts) > 1 and parts[0] and not inner.startswith("|"):
        parts = [parts[0], inner[inner.index(signs[0]) + len(signs[0]) :].strip()]
        head = split(parts[0], _RELATION)[0]
        if not _is_bare(head[0]) or len(head) == 2 and head[1] not in ("\\mathbb{R}", "\\mathbb R"):
            return None
        try:
            found = read(parts[1])
        except Unreadable:
            return None
        if not isinstance(found, Region) or found.variable != head[0]:
            return None
        return found.named(None)
    try:
        numbers = [number(part) for part in split(inner, _COMMA)[0]] if inner else []
    except Unreadable:
        return None
    return regions.points(numbers) if all(abs(one) != regions.INFINITY for one in numbers) else None


def _interval(text: str) -> Region | None:
    if text[:1] not in ("(", "[", "]") or text[-1:] not in (")", "]", "["):
        return None
    parts, _ = split(text[1:-1], _COMMA)
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


def _tuple(text: str, problem: str) -> object | None:
    if text[:1] == "]" and text[-1:] in ("[", "]") or text[:1] in "([" and text[-1:] == "[":
        region = _interval(text)
        if region is not None:
            return region
    for transposed in ("^T", "^{T}", "^\\top", "^{\\top}"):
        if text.startswith("(") and text.endswith(")" + transposed) and "," in text:
            text = text.removesuffix(transposed)
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]") or not _closes(text):
        return None
    parts, _ = split(text[1:-1], _COMMA)
    if len(parts) == 1:
        return None
    if not all(parts) or len(parts) > MAX_ITEMS:
        raise Unreadable("an empty place")
    return Items("tuple", tuple(read(part, problem) for part in parts), text[0] + text[-1])


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
    return regions.interval(low, high, *closed) if low < high else None


# -- values --


def _expression(text: str, problem: str) -> Expression:
    percent = text.endswith("%")
    if percent:
        text = text[:-1].strip()
        if not text:
            raise Unreadable("nothing before %")
    decimal = _decimal(text)
    money = None
    for sign in ("\\$", "USD", "US\\$", "€", "£", "¥", "₹", "Rs.", "Rs"):
        if text.startswith(sign):
            text, money = text[len(sign) :].strip(), unit_of_money(sign)
            decimal = _decimal(text)
    if text.endswith("\\$"):
        text, money = text[:-2].strip(), unit_of_money("$")
    text = _without_groups(text)
    degrees = bool(_DEGREES.search(text))
    styled = None if percent else _styled_unit(text, problem)
    if styled:
        number, measure = styled
        return Expression(parse(number), measure, False, _decimal(number), degrees)
    try:
        return Expression(parse(text), money, percent, decimal, degrees, text)
    except Unreadable:
        found = None if percent else with_bare_unit(text, problem)
        if found is None:
            raise
        return found


def _decimal(text: str) -> tuple[int, int] | None:
    match = _DECIMAL.match(text)
    if not match:
        return None
    digits = (match[2] + match[3]).lstrip("0")
    return len(match[3]) - int((match[4] or "0").replace(" ", "")), len(digits)


def _styled_unit(text: str, problem: str) -> tuple[str, Measure] | None:
    r"""A value and the unit behind it that is set as text, `5\text{ cm}^2`."""
    styled = _TRAILING_STYLE.search(text)
    if not styled or not styled.start():
        return None
    start = styled.start()
    before = text[:start].rstrip()
    if before.endswith("\\mu"):
        before, start = before[:-3].rstrip(), len(before) - 3
    measure = read_measure(_unstyled(text[start:]), problem)
    return None if measure is None or not before else (_without_groups(before), measure)


def with_bare_unit(text: str, problem: str = "") -> Expression | None:
    """A value and the unit behind it in plain letters, `5 cm` or `12 red apples`; None if there is none."""
    match = _BARE_UNIT.search(text)
    measure = read_measure(match[1], problem) if match and match.start() else None
    if measure is None:
        return None
    number = _without_groups(text[: match.start()].strip())
    try:
        return Expression(parse(number), measure, False, _decimal(number), bool(_DEGREES.search(number)))
    except Unreadable:
        return None


_BARE_UNIT = re.compile(
    r"(?<=[0-9)}i]) ?((?:[a-zA-Z]{2}|[ÅΩ¢€£µμ]|\\Omega|\\AA)[^0-9\\{}^]{0,60}"
    r"(?:\^ ?(?:-?[0-9]|\{ ?-?[0-9] ?\})[^0-9\\{}^]{0,60}){0,4})\Z"
)
_STYLE = re.compile(r"\\(?:text|mathrm|mbox|textrm|operatorname|textit|textbf|rm)(?![a-zA-Z])")


def _unstyled(text: str) -> str:
    plain = _STYLE.sub("", text).replace("~", " ")
    kept = []
    depth = 0
    for index, sign in enumerate(plain):
        if sign == "{" and not (index and plain[index - 1] == "^"):
            kept.append(" ")
            continue
        if sign == "{":
            depth = 1
        elif sign == "}":
            if not depth:
                kept.append(" ")
                continue
            depth = 0
        kept.append(sign)
    return "".join(kept)
