r"""Reading a number as it is written: `10{,}000`, `1\frac{1}{2}`, `12.5\%`, `1.2 \times 10^5`, `5\text{ cm}`.

Exact: every number is a fraction of integers. What is not a single number (`2+3`, `5 or 6`, `2x`) reads as None.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from openrlhf_math.rewards.notation import unstyled
from openrlhf_math.rewards.units import read_unit, unit_of_money

MAX_DIGITS = 400
MAX_EXPONENT = 400

_INTEGER = re.compile(r"-?[0-9]{1,18}\Z")
_SIGNED = re.compile(r"\A([+-]?) ?((?:\\?\$|USD\b|[€£¥₹]|Rs\b\.?)?) ?([+-]?) ?")
_DIGITS = r"([0-9]+(?:[, ][0-9]{3}(?![0-9]))*)"
_INT = r" ?([+-]? ?[0-9]+) ?"
_MIXED = re.compile(rf"\A(?:{_DIGITS} ?)?\\frac ?\{{{_INT}\}}\{{{_INT}\}}")
_SLASHED_MIXED = re.compile(r"\A([0-9]+)(?: ?- ?| )([0-9]+) ?/ ?([0-9]+)")
_SLASHED = re.compile(rf"\A{_DIGITS} ?[/:] ?([0-9]+)")
_REPEATING = re.compile(r"\A([0-9]*\.[0-9]*)\\overline ?\{([0-9]+)\}")
_DECIMAL = re.compile(rf"\A(?:{_DIGITS}(\.[0-9]*)?|(\.[0-9]+))")
_STYLE = re.compile(r"(\\(?:text|mathrm|mbox|textbf|textit|textrm)\s*\{)")
_POWER = re.compile(r"\A(?: ?(?:\\times|\\cdot|\*|x) ?10 ?\^ ?(?:\{ ?([+-]? ?[0-9]+) ?\}|([0-9]+))|[eE]([+-]?[0-9]+))")
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALE = re.compile(rf"({'|'.join(_SCALES)})s?\b\s*", re.IGNORECASE)
_PERCENT = re.compile(r"(?:%|percent(?:age)?\b|pct\b)\s*", re.IGNORECASE)

_NAMES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_VALUES = {name: value for value, name in enumerate(_NAMES.split())}


@dataclass(frozen=True, slots=True)
class Number:
    """A number and how it was written.

    `form` is "integer", "decimal", "repeating", "fraction" or "scientific"; `unit` is "" if there is none.
    """

    value: Fraction
    form: str
    percent: bool = False
    unit: str = ""


@lru_cache(maxsize=1 << 14)
def read_number(text: str) -> Number | None:
    """Read tidied text (see `notation.tidy`) as one number, or return None."""
    if _INTEGER.match(text):
        return Number(Fraction(int(text)), "integer")
    if text[-1:].isalpha() or text[-1:] == "}":
        named = _VALUES.get(unstyled(text).lower())
        if named is not None:
            return Number(Fraction(named), "integer")
    if len(text) > MAX_DIGITS or not any(sign.isdigit() for sign in text[:64]):
        return None
    styled = "{" in text
    text = _unstyled(text)
    signed = _SIGNED.match(text)
    value, form, end = _literal(text[signed.end() :])
    if value is None or signed[1] and signed[3]:
        return None
    rest = _read_rest(text[signed.end() + end :].lstrip(), styled)
    if rest is None:
        return None
    scale, percent, unit = rest
    if "-" in (signed[1], signed[3]):
        value = -value
    return Number(value * 10**scale, form, percent, unit or unit_of_money(signed[2]))


def _unstyled(text: str) -> str:
    r"""`5\text{ cm}` -> `5 cm`; the space keeps `5\text{cm}` from reading as the product `5cm`."""
    return unstyled(_STYLE.sub(r" \1", text))


def _literal(text: str) -> tuple[Fraction | None, str, int]:
    """The number a text begins with: its value, its form and its length; no value if it begins with none."""
    if match := _MIXED.match(text) or _SLASHED_MIXED.match(text):
        return _mixed(match), "fraction", match.end()
    if match := _SLASHED.match(text):
        whole, bottom = _grouped(match[1]), _integer(match[2])
        return (Fraction(whole, bottom) if bottom and whole is not None else None), "fraction", match.end()
    if match := _REPEATING.match(text):
        return _repeating(match[1], match[2]), "repeating", match.end()
    match = _DECIMAL.match(text)
    whole = _grouped(match[1] or "0") if match else None
    if whole is None:
        return None, "", 0
    digits = match[2] or match[3] or ""
    value = Fraction(f"{whole}{digits}" if len(digits) > 1 else whole)
    if power := _POWER.match(text[match.end() :]):
        exponent = _integer(power[1] or power[2] or power[3])
        value = value * Fraction(10) ** exponent if abs(exponent) <= MAX_EXPONENT else None
        return value, "scientific", match.end() + power.end()
    return value, "decimal" if digits else "integer", match.end()


def _mixed(match: re.Match) -> Fraction | None:
    bottom = _integer(match[3])
    part = Fraction(_integer(match[2]), bottom) if bottom else None
    whole = _grouped(match[1] or "0")
    if part is None or whole is None or (match[1] and not 0 <= part < 1):
        return None  # `2\\frac{5}{3}` may be a product
    return part + whole


def _grouped(digits: str) -> int | None:
    """`1,234` -> 1234; `1234,567` and `0123,456` are no number."""
    first = digits.replace(" ", ",").partition(",")
    return None if first[1] and len(first[0]) > 3 else _integer(digits)


def _repeating(fixed: str, repeat: str) -> Fraction | None:
    if "." not in fixed:
        return None
    places = len(fixed) - fixed.index(".") - 1
    start = Fraction(fixed + "0" if fixed.endswith(".") else fixed) if fixed != "." else Fraction(0)
    return start + Fraction(int(repeat), (10 ** len(repeat) - 1) * 10**places)


def _integer(text: str) -> int:
    return int(text.replace(",", "").replace(" ", ""))


def _read_rest(rest: str, styled: bool) -> tuple[int, bool, str] | None:
    """What follows the digits: (power of ten, percent?, unit), or None if it is more than a unit."""
    if not rest:
        return 0, False, ""
    scale = 0
    if match := _SCALE.match(rest):
        scale, rest = _SCALES[match[1].lower()], rest[match.end() :]
    percent = False
    if match := _PERCENT.match(rest):
        percent, rest = True, rest[match.end() :]
    unit = read_unit(rest, styled)
    return None if unit is None else (scale, percent, unit)
