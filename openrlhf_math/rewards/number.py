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
_SIGN = r"(?P<sign>[+-]?)\s*"
_WHOLE = r"[0-9]{1,3}(?:[, ][0-9]{3})+|[0-9]+"
_LITERAL = re.compile(
    rf"""{_SIGN}(?P<money>\\?\$|USD\b|[€£¥₹]|Rs\b\.?)?\s*{_SIGN.replace("sign", "sign2")}
    (?:
        (?P<mixed>{_WHOLE})?\s*\\frac\s*\{{\s*(?P<top>[+-]?\s*[0-9]+)\s*\}}\s*\{{\s*(?P<bottom>[+-]?\s*[0-9]+)\s*\}}
      | (?P<mixed2>[0-9]+)(?:\s+|\s*-\s*(?=[0-9]+/))(?P<top2>[0-9]+)\s*/\s*(?P<bottom2>[0-9]+)
      | (?P<top3>{_WHOLE})\s*[/:]\s*(?P<bottom3>[0-9]+)
      | (?P<fixed>[0-9]*\.?[0-9]*)\\overline\s*\{{(?P<repeat>[0-9]+)\}}
      | (?P<decimal>(?:{_WHOLE})?\.[0-9]+|(?:{_WHOLE})\.?)
        (?: \s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{{\s*(?P<power>[+-]?\s*[0-9]+)\s*\}}|(?P<power2>[0-9]+))
          | [eE](?P<power3>[+-]?[0-9]+) )?
    )
    \s*(?P<rest>.*)\Z""",
    re.VERBOSE | re.DOTALL,
)
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
    match = _LITERAL.match(_unstyled(text))
    if not match:
        return None
    parts = match.groupdict()
    value, form = _value(parts)
    rest = _read_rest(parts["rest"], styled="{" in text) if value is not None else None
    if rest is None:
        return None
    scale, percent, unit = rest
    if parts["sign"] and parts["sign2"]:
        return None
    if "-" in (parts["sign"], parts["sign2"]):
        value = -value
    return Number(value * 10**scale, form, percent, unit or unit_of_money(parts["money"] or ""))


def _unstyled(text: str) -> str:
    r"""`5\text{ cm}` -> `5 cm`; the space keeps `5\text{cm}` from reading as the product `5cm`."""
    return unstyled(re.sub(r"(\\(?:text|mathrm|mbox|textbf|textit|textrm)\s*\{)", r" \1", text))


def _value(parts: dict) -> tuple[Fraction | None, str]:
    for suffix in ("", "2", "3"):
        if parts[f"top{suffix}"] is not None:
            bottom = _integer(parts[f"bottom{suffix}"])
            if bottom == 0:
                return None, ""
            part = Fraction(_integer(parts[f"top{suffix}"]), bottom)
            whole = parts.get(f"mixed{suffix}") if suffix != "3" else None
            if whole and not 0 <= part < 1:
                return None, ""  # `2\frac{5}{3}` may be a product
            return part + _integer(whole or "0"), "fraction"
    if parts["repeat"] is not None:
        return _repeating(parts["fixed"], parts["repeat"]), "repeating"
    power = _integer(parts["power"] or parts["power2"] or parts["power3"] or "0")
    if abs(power) > MAX_EXPONENT:
        return None, ""
    digits = parts["decimal"].replace(",", "").replace(" ", "")
    value = Fraction(digits if digits[-1] != "." else digits[:-1]) * Fraction(10) ** power
    if any(parts[name] for name in ("power", "power2", "power3")):
        return value, "scientific"
    return value, "decimal" if "." in digits else "integer"


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
