r"""Reading a number as it is written: `10{,}000`, `1\frac{1}{2}`, `12.5\%`, `1.2 \times 10^5`, `5\text{ cm}`.

Exact: every number is a fraction of integers. What is not a single number (`2+3`, `5 or 6`, `2x`) reads as None.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd

from openrlhf_math.rewards.measures import Measure, read_measure, unit_of_money
from openrlhf_math.rewards.notation import unstyled
from openrlhf_math.rewards.words import meaning, number_of_words

MAX_DIGITS = 400
MAX_EXPONENT = 400

_INTEGER = re.compile(r"-?[0-9]{1,18}\Z")
_SIGNED = re.compile(r"\A([+-]?) ?((?:\\?\$|(?:USD|EUR|GBP|JPY|CNY|INR|CHF)\b|[€£¥₹]|Rs\b\.?)?) ?([+-]?) ?")
_DIGITS = r"([0-9]+(?:[, ][0-9]{3}(?![0-9]))*)"
_INT = r" ?([+-]? ?[0-9]+) ?"
_MIXED = re.compile(rf"\A(?:{_DIGITS} ?)?\\frac ?\{{{_INT}\}}\{{{_INT}\}}")
_SLASHED_MIXED = re.compile(r"\A([0-9]+) ([0-9]+) ?/ ?([0-9]+)")
_SLASHED = re.compile(rf"\A{_DIGITS} ?([/:]|\\div) ?([0-9]+)")
_REPEATING = re.compile(r"\A([0-9]*\.[0-9]*)\\overline ?\{([0-9]+)\}")
_DECIMAL = re.compile(rf"\A(?:{_DIGITS}(\.[0-9]*)?|(\.[0-9]+))")
_STYLE = re.compile(r"(\\(?:text|mathrm|mbox|textbf|textit|textrm)\s*\{)")
_POWER = re.compile(r"\A(?: ?(?:\\times|\\cdot|\*|x) ?10 ?\^ ?(?:\{ ?([+-]? ?[0-9]+) ?\}|([0-9]+))|[eE]([+-]?[0-9]+))")
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALE = re.compile(rf"({'|'.join(_SCALES)})s?\b\s*", re.IGNORECASE)
_PERCENT = re.compile(r"(?:%|percent(?:age)?\b|pct\b)\s*", re.IGNORECASE)

_MANTISSA = re.compile(r"\A([0-9, ]*)\.([0-9]+)")
_POWER_AT_END = re.compile(r"(?:\^ ?\{?|[eE]) ?([+-]? ?[0-9]{1,9}) ?\}?\Z")
_CLOCK = re.compile(r"\A([0-9]{1,2}):([0-5][0-9])(?![0-9])")
_FIRST_WORD = re.compile(r"\A( ?)([a-zA-Z]{1,40})")
COMMON_UNITS = frozenset(
    ["cm", "km", "mm", "kg", "ft", "in", "lb", "oz", "ml", "hr", "am", "pm", "mi", "yd", "usd", "hz"]
)
_WORD_IN_BASE = re.compile(r"\A[a-zA-Z]_|\A_")


@dataclass(frozen=True, slots=True)
class Number:
    """A number and how it was written.

    `form` is "integer", "decimal", "repeating", "fraction", "ratio" or "scientific". `decimal` has the places behind
    the point and the significant digits of a number that is written with a point.
    """

    value: Fraction
    form: str
    percent: bool = False
    unit: Measure | None = None
    decimal: tuple[int, int] | None = None


@lru_cache(maxsize=1 << 14)
def read_number(text: str, problem: str = "") -> Number | None:
    """Read tidied text (see `notation.tidy`) as one number, or return None. Words of the problem may be counted."""
    if _INTEGER.match(text):
        return Number(Fraction(int(text)), "integer")
    if text[-1:].isalpha() or text[-1:] == "}" or text[:5].lower() in ("minus", "\\text"):
        parsed = meaning(unstyled(text)) or ()
        if parsed[:1] == ("number",):
            return Number(parsed[1], "integer" if parsed[1].denominator == 1 else "fraction")
        if parsed[:1] == ("ordinal",) and text[0].isalpha() and " " not in text:
            return Number(Fraction(parsed[1]), "integer", unit=read_measure("th"))
    if len(text) > MAX_DIGITS or not any(sign.isdigit() for sign in text[:64]):
        return None
    if (clock := _CLOCK.match(text)) and gcd(int(clock[1]), int(clock[2])) != 1:
        return None
    styled, fraction = bool(_STYLE.search(text)), "\\frac" in text
    text = _unstyled(text)
    signed = _SIGNED.match(text)
    value, form, end = _literal(text[signed.end() :]) if signed else (None, "", 0)
    if signed is None or value is None or signed[1] and signed[3]:
        return None
    decimal = _places(text[signed.end() : signed.end() + end]) if form in ("decimal", "scientific") else None
    after = text[signed.end() + end :]
    if after.endswith(")") and number_of_words(after.strip(" ()")) == value:  # `17 (seventeen)`
        after = ""
    rest = _read_rest(after.lstrip(), problem)
    if rest is None or after and not styled and not _unit_in_letters(after, fraction):
        return None
    scale, percent, unit = rest
    if form == "ratio" and (unit or percent):  # `1:4 p.m.` is a time
        return None
    if "-" in (signed[1], signed[3]):
        value = -value
    return Number(value * 10**scale, form, percent, unit or unit_of_money(signed[2]), None if scale else decimal)


def _places(literal: str) -> tuple[int, int] | None:
    mantissa, power = _MANTISSA.match(literal), _POWER_AT_END.search(literal)
    if not mantissa:
        return None
    places = len(mantissa[2])
    exponent = int(power[1].replace(" ", "")) if power else 0
    return places - exponent, len((mantissa[1] + mantissa[2]).replace(",", "").replace(" ", "").lstrip("0"))


def _unstyled(text: str) -> str:
    r"""`5\text{ cm}` -> `5 cm`; the space keeps `5\text{cm}` from reading as the product `5cm`."""
    return unstyled(_STYLE.sub(r" \1", text))


def _literal(text: str) -> tuple[Fraction | None, str, int]:
    """The number a text begins with: its value, its form and its length; no value if it begins with none."""
    if match := _MIXED.match(text) or _SLASHED_MIXED.match(text):
        return _mixed(match), "fraction", match.end()
    if match := _SLASHED.match(text):
        whole, bottom = _grouped(match[1]), _integer(match[3])
        form = "ratio" if match[2] == ":" else "fraction"
        return (Fraction(whole, bottom) if bottom and whole is not None else None), form, match.end()
    if match := _REPEATING.match(text):
        return _repeating(match[1], match[2]), "repeating", match.end()
    match = _DECIMAL.match(text)
    if match is None or (whole := _grouped(match[1] or "0")) is None:
        return None, "", 0
    digits = match[2] or match[3] or ""
    value = Fraction(f"{whole}{digits}" if len(digits) > 1 else whole)
    if power := _POWER.match(text[match.end() :]):
        exponent = _integer(power[1] or power[2] or power[3])
        scaled = value * Fraction(10) ** exponent if abs(exponent) <= MAX_EXPONENT else None
        return scaled, "scientific", match.end() + power.end()
    return value, "decimal" if digits else "integer", match.end()


def _mixed(match: re.Match) -> Fraction | None:
    bottom = _integer(match[3])
    part = Fraction(_integer(match[2]), bottom) if bottom else None
    whole = _grouped(match[1] or "0")
    if part is None or whole is None or (match[1] and not 0 <= part < 1):
        return None  # `2\\frac{5}{3}` may be a product
    return part + whole


def _grouped(digits: str) -> int | None:
    """`1,234` -> 1234; `1234,567` and `0123,456` are not numbers."""
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


def _unit_in_letters(after: str, fraction: bool) -> bool:
    """Whether letters that are not set as text are a unit: `5 cm`, `12 apples`. `5m` is 5 times m, `2cd` is 2 c d."""
    word = _FIRST_WORD.match(after)
    if not word:
        return True
    if word[2].lower() in ("th", "st", "nd", "rd") and not fraction:
        return True
    if fraction or len(word[2]) < 2:
        return False
    return len(word[2]) > 2 or bool(word[1]) and word[2].lower() in COMMON_UNITS


def _read_rest(rest: str, problem: str) -> tuple[int, bool, Measure | None] | None:
    """What follows the digits: (power of ten, percent?, unit), or None if it is more than a unit."""
    if not rest or rest == "\\$":
        return 0, False, unit_of_money("$") if rest else None
    scale, percent = 0, False
    if match := _SCALE.match(rest):
        scale, rest = _SCALES[match[1].lower()], rest[match.end() :]
    if match := _PERCENT.match(rest):
        percent, rest = True, rest[match.end() :]
    if not rest:
        return scale, percent, None
    if percent or _WORD_IN_BASE.match(rest):
        return None
    unit = read_measure(rest, problem)
    return None if unit is None else (scale, percent, unit)
