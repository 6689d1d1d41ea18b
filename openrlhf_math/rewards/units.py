"""Units of measure after a number. Unknown ones, `5 apples`, are words that may be there or not."""

import re

_UNITS = {
    "degree": "° ^\\circ degree degrees deg",
    "dollar": "dollar dollars usd $ buck bucks",
    "cent": "cent cents ¢",
    "millimetre": "mm millimeter millimeters millimetre millimetres",
    "centimetre": "cm cms centimeter centimeters centimetre centimetres",
    "metre": "m meter meters metre metres",
    "kilometre": "km kms kilometer kilometers kilometre kilometres",
    "inch": "in inch inches",
    "foot": "ft foot feet",
    "yard": "yd yds yard yards",
    "mile": "mi mile miles",
    "milligram": "mg milligram milligrams",
    "gram": "g gm gram grams",
    "kilogram": "kg kgs kilogram kilograms kilo kilos",
    "ounce": "oz ounce ounces",
    "pound": "lb lbs pound pounds",
    "ton": "ton tons tonne tonnes",
    "second": "s sec secs second seconds",
    "minute": "min mins minute minutes",
    "hour": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks wk wks",
    "month": "month months",
    "year": "year years yr yrs",
    "millilitre": "ml milliliter milliliters millilitre millilitres",
    "litre": "l liter liters litre litres",
    "celsius": "celsius",
    "fahrenheit": "fahrenheit",
    "newton": "n newton newtons",
    "joule": "j joule joules",
    "watt": "w watt watts",
    "hertz": "hz hertz",
    "ordinal": "st nd rd th",
    "am": "am",
    "pm": "pm",
    "radian": "rad rads radian radians",
    "mph": "mph",
    "kmh": "kmh kph",
}
_UNIT = {word: name for name, words in _UNITS.items() for word in words.split()}
# Words that say more than a unit does; a number followed by one of them is no plain number.
_MORE_THAN_UNITS = (
    "or and not nor but either neither maybe possibly to between plus minus times over if when where for no yes "
    "negative hundred thousand million billion dozen half quarter third wait however is are was mod squared cubed "
    "sin cos tan cot csc log ln exp lim max gcd lcm sqrt pi frac undefined factorial all except least most more less "
    "fewer about roughly almost nearly up"
)
_NOT_UNITS = frozenset(_MORE_THAN_UNITS.split())
_TEMPERATURE = {"C": " celsius", "F": " fahrenheit"}
_DEGREES = re.compile(r"\^\\circ\s*([CF])(?![a-zA-Z])")
_STYLED_END = re.compile(r"\A\\(?:text|mathrm|mbox) ?\{([^{}]+)\} ?(?:\^ ?(?:[23]|\{[23]\}))?\Z")
_STYLES = ("\\text", "\\mathrm", "\\mbox")
_WORD = re.compile(r"[A-Za-z][A-Za-z'’\-]*|\^\\circ")
_UNIT_TEXT = re.compile(r"\A(?=[A-Za-z^(])(?:[A-Za-z'’/() -]|\^(?: ?(?:[23]|\{ ?[23] ?\})|\\circ))+\Z")


def read_unit(text: str, styled: bool) -> str | None:
    r"""The unit that follows a number: its name here, "" for none or an unknown one, None if it is no unit.

    `styled`: something was in `\text{}`, so that a single letter may be a unit and no variable.
    """
    text = _DEGREES.sub(lambda match: _TEMPERATURE[match[1]], text).replace(".", "").strip(" \\$€£¥₹¢")
    if not text:
        return ""
    if not _UNIT_TEXT.match(text):
        return None
    lowered = [word.lower() for word in _WORD.findall(text)]
    if any(word in _NOT_UNITS for word in lowered):
        return None
    if any(len(word) < 3 and word not in _UNIT for word in lowered):
        return None  # a variable, as in `5x`
    if not lowered or not styled and len(lowered[0]) == 1:
        return None  # `5m` is five times m, `5\text{m}` is five metres
    known = [_UNIT[word] for word in lowered if word in _UNIT]
    return " ".join(known)


def measured(text: str) -> tuple[str, str]:
    r"""An expression and the unit after it: `25\pi\text{ cm}^2` -> `25\pi`, "centimetre"; as it is if there is none."""
    start = max(text.rfind(style) for style in _STYLES)
    match = _STYLED_END.match(text[start:]) if start > 0 else None
    unit = read_unit(match[1], styled=True) if match else None
    return (text, "") if unit is None else (text[:start].rstrip(), unit)


def unit_of_money(sign: str) -> str:
    """The unit of a sign before a number: `\\$`, `USD`; "" for other currencies."""
    return _UNIT.get(sign.strip("\\").lower(), "")
