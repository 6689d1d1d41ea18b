r"""What an answer says: a value with its unit, a relation, a list, a set, a tuple, a region of the real line, or words.

`read` reads the whole of a tidied text or raises Unreadable.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import mpmath

from openrlhf_math.rewards import regions
from openrlhf_math.rewards.evaluate import symbols
from openrlhf_math.rewards.kinds import Expression, Items, Relation, Statement, Tagged, Where
from openrlhf_math.rewards.latex import Unreadable, parse
from openrlhf_math.rewards.measured import read_duration, read_value
from openrlhf_math.rewards.piecewise import read_pieces
from openrlhf_math.rewards.regions import Region
from openrlhf_math.rewards.solution_sets import BUILDER, as_region, bracketed, region_of
from openrlhf_math.rewards.tokens import COMMA, RELATION, SIGNS, closes, is_bare, is_grouped, split, without_groups
from openrlhf_math.rewards.words import is_words, meaning

MAX_ITEMS = 100
_JOINT = re.compile(
    r"\\text[a-z]{0,8} ?\{ ?(?:, ?)?(?:or|and) ?\}|(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z])"
    r"|\\(?:lor|vee|wedge|land)(?![a-zA-Z])|[,;]|或|和|、",
    re.IGNORECASE,
)
_OTHER_RELATION = re.compile(
    r"\\(?:to|rightarrow|Rightarrow|implies|iff|propto|sim|cong|simeq|mid|nmid|parallel|perp|subset|subseteq|supset|ll|gg"
    r"|leftrightarrow|Leftrightarrow|mapsto|forall|exists|neg|lnot|not|prec|succ)(?![a-zA-Z])"
)
_SET_SIGN = re.compile(r"\\(?:cup|cap|setminus|backslash)(?![a-zA-Z])")
_MODULUS = re.compile(
    r"(?: ?\((?:\\?mod|\\text ?\{ ?mod ?\})|\\[pb]?mod) ?(?:\{ ?([0-9]{1,40}) ?\}|([0-9]{1,40}))\)?\Z"
)
_BASED = re.compile(
    r"\A\(?([0-9A-Za-z]{1,60})\)?_(?:\{ ?\(?(?:\\text ?\{ ?)?([0-9]{1,2}|[a-z]{2,9}) ?(?:\} ?)?\)?\}|([0-9]))\Z"
)
_CLOCK = re.compile(r"\A([0-9]{1,2}):([0-5][0-9])(?::([0-5][0-9]))? ?([ap]\.? ?m\.?)?\Z", re.IGNORECASE)
_DIGITS = {name: base for base, name in enumerate(
    (
        "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    ).split(), 2
)}  # fmt: skip


@lru_cache(maxsize=4096)
def read(text: str, problem: str = "") -> Statement:
    """The statement that a tidied text makes. Raises Unreadable."""
    text = text.strip()
    if not text:
        raise Unreadable("nothing")
    if is_words(text) or not text.isascii() or text.startswith("\\text"):
        parsed = meaning(text)
        if parsed is not None:
            return _of_meaning(parsed)
    if match := _CLOCK.match(_plain(text)):
        half = (match[4] or "").replace(".", "").replace(" ", "").lower()
        return Tagged("clock", (int(match[1]), int(match[2]), int(match[3] or 0), half))
    if "cases}" in text:
        found = read_pieces(text, lambda part: read(part, problem))
        if found is not None:
            return found
    readers: tuple[Callable[[str, str], Statement | None], ...] = (
        _signed_tuple, read_duration, _several, _base, _residue, _ratio, _relation, _set, _tuple
    )  # fmt: skip
    for reader in readers:
        found = reader(text, problem)
        if found is not None:
            return found
    return read_value(text, problem)


def _of_meaning(found: tuple) -> Statement:
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
    if not text.startswith("\\pm") or not text.endswith(")") or not closes(text[3:].strip()):
        return None
    inner = read(text[3:].strip(), problem)
    if not isinstance(inner, Items):
        return None
    values = [item for item in inner.items if isinstance(item, Expression)]
    if len(values) < len(inner.items):
        return None
    minus = tuple(Expression(("*", (("n", Fraction(-1)), item.tree)), item.measure) for item in values)
    return Items("list", (inner, Items("tuple", minus, inner.brackets)))


def _several(text: str, problem: str) -> Statement | None:
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
    if any(not part and not _is_next_to_word(signs, place) for place, part in enumerate(parts)):
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
    first, firsts = split(parts[0], RELATION)
    if [SIGNS.get(sign, sign) for sign in firsts] == ["!="] and not any(map(RELATION.search, parts[1:])):
        parts = [parts[0], *(rf"{first[0]} \ne {part}" for part in parts[1:])]  # `x \ne 1, -1`
    found = _solved(parts, joint)
    if found is not None:
        return found
    logical = any(sign.startswith("\\l") or "vee" in sign or "wedge" in sign for sign in signs)
    if logical and not all(map(RELATION.search, parts)):
        raise Unreadable("a formula of logic")
    statements = _with_names(parts, problem)
    return Items("list", tuple(statements), "", joint)


_TEXT_WITH_JOINT = re.compile(r"\\text ?\{ ?([a-zA-Z]{2,20}),? (and|or) ?\}")
_FOR_ALL = re.compile(
    r",? ?\\text[a-z]{0,4} ?\{,? ?(?:for all|for any|for every|for|where|with|if|when) ?\} ?|,? ?\\forall(?![a-zA-Z]) ?"
)


def _without_condition(text: str) -> tuple[str, str]:
    r"""`f(x) = 2x \text{ for all } x > 0`: what is said, and for which values."""
    match = _FOR_ALL.search(text)
    if match and match.start():
        main, condition = text[: match.start()].strip(), text[match.end() :].strip()
    else:
        match = _IN_BRACKETS.search(text)
        main, condition = (text[: match.start()].strip(" ,"), match[1]) if match else ("", "")
    if main and (RELATION.search(main) or _is_condition(condition, [main])):
        return main, condition
    return text, ""


_MEMBER = re.compile(r"\A[a-zA-Z] ?\\in ?\\mathbb\{[A-Z]\}\Z")
_IN_BRACKETS = re.compile(r"\(([a-zA-Z] ?\\in ?[^()]{1,40})\)\Z")


def _is_next_to_word(signs: list[str], place: int) -> bool:
    """Whether an empty part is next to "and" or "or", as in `3, 5, and 7`."""
    return any(sign not in (",", ";") for sign in signs[max(place - 1, 0) : place + 1])


def _joint(signs: list[str]) -> str:
    joined = " ".join(signs).lower()
    if "or" in joined or "vee" in joined or "或" in joined:
        return "or"
    return "and" if "and" in joined or "land" in joined or "wedge" in joined else ","


def _conditions(parts: list[str]) -> int:
    """How many of the last parts only say for which values the first ones hold."""
    number = 0
    while number < len(parts) - 1 and _is_condition(parts[-1 - number], parts[: len(parts) - 1 - number]):
        number += 1
    return number


def _is_condition(text: str, before: list[str]) -> bool:
    sides, signs = split(text, RELATION)
    if len(sides) < 2:
        return False
    first, firsts = split(before[0], RELATION)
    if any(SIGNS.get(sign, sign) not in ("=", "~") for sign in firsts):
        return False
    if all(SIGNS.get(sign, sign) in ("=", "~") for sign in signs):
        return False
    try:
        names = symbols(parse(before[0] if not firsts else first[-1]))
        condition_names = symbols(parse(next(side for side in sides if side)))
    except (Unreadable, StopIteration):
        return False
    return bool(condition_names & names) and (bool(firsts) or not is_bare(before[0]))


def _solved(parts: list[str], joint: str) -> Region | None:
    """`x < -2 or x > 3`, `x > 0, x \\ne 1`: the region that several conditions on one variable leave."""
    found = []
    for part in parts:
        if not RELATION.search(part) or "=" in part and not is_inequality(part) and joint != "or":
            return None
        region = as_region(_relation_of(part))
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


def is_inequality(text: str) -> bool:
    _, signs = split(text, RELATION)
    return any(SIGNS.get(sign, sign) not in ("=", "~") for sign in signs)


def _with_names(parts: list[str], problem: str) -> list:
    """`x = 3, 5` names both; the others are read one by one."""
    first, signs = split(parts[0], RELATION)
    if len(first) == 2 and SIGNS.get(signs[0], signs[0]) == "=" and not any(map(RELATION.search, parts[1:])):
        return [read(f"{first[0]} = {part}", problem) for part in [first[1], *parts[1:]]]
    return [read(part, problem) for part in parts]


def _base(text: str, problem: str) -> Tagged | None:
    match = _BASED.match(text) or _BASED.match(_plain_digits(text))
    if prefixed := _PREFIXED.match(text):
        return Tagged("base", (prefixed[2].upper().lstrip("0") or "0", {"b": 2, "o": 8, "x": 16}[prefixed[1].lower()]))
    if worded := _WORDED_BASE.match(_plain(text)):
        return Tagged("base", (worded[1].upper().lstrip("0") or "0", int(worded[2])))
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
_WORDED_BASE = re.compile(r"\A([0-9A-F]{1,60}) ?\(?(?:in )?base ([0-9]{1,2})\)?\Z")


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
    sides, signs = split(before, RELATION)
    if len(sides) > 2 or len(sides) == 2 and SIGNS.get(signs[0], signs[0]) != "=":
        raise Unreadable("a residue of what")
    name = sides[0].replace(" ", "") if len(sides) == 2 else ""
    return Tagged("residue", (read(sides[-1], problem), int(match[1] or match[2]), name))


def _ratio(text: str, problem: str) -> Tagged | None:
    if worded := _WORDED_RATIO.match(_plain(text)):
        return Tagged("ratio", tuple(("n", Fraction(part)) for part in worded.groups()))
    if ":" not in text and "\\colon" not in text:
        return None
    parts, _ = split(text, _COLON)
    if len(parts) < 2 or not all(parts) or any(RELATION.search(part) for part in parts):
        return None
    return Tagged("ratio", tuple(parse(part) for part in parts))


_WORDED_RATIO = re.compile(r"\A([0-9]{1,9}) to ([0-9]{1,9})\Z")
_COLON = re.compile(r"\\colon(?![a-zA-Z])|:")


def _relation(text: str, problem: str) -> Statement | None:
    if not RELATION.search(text):
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
    region = as_region(relation) if not relation.is_equation else None
    return relation if region is None else region


def _relation_of(text: str) -> Relation | None:
    parts, signs = split(text, RELATION)
    if len(parts) == 1:
        return None
    if "" in parts[1:-1] or len(parts) > 12:
        raise Unreadable("a relation without a side")
    signs = [SIGNS.get(sign, sign) for sign in signs]
    if parts[0] == "" and signs[0] not in ("=", "~"):
        raise Unreadable("a relation without a side")
    if parts[-1] == "":
        raise Unreadable("a relation without a side")
    if parts[0] == "":
        parts, signs = parts[1:], signs[1:]
    return Relation(tuple(parts), tuple(signs))


def _set(text: str, problem: str) -> Statement | None:
    region = (
        region_of(text)
        if text.startswith("\\{") or _SET_SIGN.search(text) or "\\mathbb" in text or "mptyset" in text
        else None
    )
    if region is not None:
        return region
    if not (text.startswith("\\{") and text.endswith("\\}") and closes(text[1:-2] + "}")):
        if _SET_SIGN.search(text):
            raise Unreadable("sets that are not regions")
        return None
    inner = text[2:-2].strip()
    parts, signs = split(inner, BUILDER)
    if len(parts) == 2 and not inner.startswith("|"):
        if _is_condition(parts[1], [parts[0]]) and _MEMBER.match(parts[1]):
            return Where(read(parts[0], problem), (parts[1],))
        raise Unreadable("a set that is described")
    parts, _ = split(without_groups(inner) if is_grouped(inner) else inner, COMMA)
    if len(parts) > MAX_ITEMS:
        raise Unreadable("too many items")
    return Items("set", tuple(read(part, problem) for part in parts if part))


def _tuple(text: str, problem: str) -> Statement | None:
    if text[:1] == "]" and text[-1:] in ("[", "]") or text[:1] in "([" and text[-1:] == "[":
        region = bracketed(text)
        if region is not None:
            return region
    for transposed in ("^T", "^{T}", "^\\top", "^{\\top}"):
        if text[:1] in ("(", "[") and text.removesuffix(transposed)[-1:] in (")", "]") and "," in text:
            text = text.removesuffix(transposed)
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]") or not closes(text):
        return None
    parts, _ = split(text[1:-1], COMMA)
    if len(parts) == 1:
        return None
    if not all(parts) or len(parts) > MAX_ITEMS:
        raise Unreadable("an empty place")
    return Items("tuple", tuple(read(part, problem) for part in parts), text[0] + text[-1])
