r"""A value and its unit: `5\text{ cm}`, `\$18`, `25\%`, `2 \text{ hours } 30 \text{ minutes}`."""

import re
from fractions import Fraction

from openrlhf_math.rewards.kinds import Expression
from openrlhf_math.rewards.latex import Unreadable, parse
from openrlhf_math.rewards.measures import Measure, read_measure, unit_of_money
from openrlhf_math.rewards.tokens import without_groups

_TRAILING_STYLE = re.compile(r"\\(?:text|mathrm|mbox|textrm|operatorname|textit|textbf|rm)(?: ?\{|(?![a-zA-Z]))")
_DECIMAL = re.compile(
    r"\A(-?)([0-9]*)\.([0-9]+)(?: ?(?:\\times|\\cdot|[*x]) ?10 ?\^ ?\{? ?([+-]? ?[0-9]{1,4}) ?\}?)?\Z"
)
_DEGREES = re.compile(r"\^ ?(?:\{ ?)?\\circ(?: ?\})?")


def read_duration(text: str, problem: str) -> Expression | None:
    r"""`2 \text{ hours } 30 \text{ minutes}`, `5 feet 6 inches`: one quantity in several units."""
    plain = (
        " ".join(_unstyled(text).split()) if text[:1].isdigit() and not text[-1:].isdigit() and len(text) < 200 else ""
    )
    found = _PARTS.findall(plain) if _DURATION.match(plain) else []
    measures = [measure for _, unit in found if (measure := read_measure(unit.strip()))]
    if len(found) < 2 or len(measures) < len(found):
        return None
    if len({measure.dimension for measure in measures}) > 1 or not measures[0].dimension:
        return None
    factors = [measure.factor for measure in measures]
    if sorted(factors, reverse=True) != factors or len(set(factors)) < len(factors):
        return None
    total = sum(Fraction(digits) * factor for (digits, _), factor in zip(found, factors, strict=True))
    return Expression(("n", total), Measure(measures[0].dimension))


_DURATION = re.compile(r"\A(?:[0-9]{1,9}(?:\.[0-9]{1,9})? ?[a-zA-Z]{1,12}(?:,? (?:and )?)?){2,4}\Z")
_PARTS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([a-zA-Z]{1,12})")


def read_value(text: str, problem: str) -> Expression:
    percent = text.endswith("%")
    if percent:
        text = text[:-1].strip()
        if not text:
            raise Unreadable("nothing before %")
    decimal = _decimal(text)
    money = None
    for sign in ("\\$", "USD", "EUR", "GBP", "JPY", "CNY", "INR", "CHF", "US\\$", "€", "£", "¥", "₹", "Rs.", "Rs"):
        if text.startswith(sign):
            text, money = text[len(sign) :].strip(), unit_of_money(sign)
            decimal = _decimal(text)
    if text.endswith("\\$"):
        text, money = text[:-2].strip(), unit_of_money("$")
    text = without_groups(text)
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
    return None if measure is None or not before else (without_groups(before), measure)


def with_bare_unit(text: str, problem: str = "") -> Expression | None:
    """A value and the unit behind it in plain letters, `5 cm` or `12 red apples`; None if there is none."""
    match = _BARE_UNIT.search(text)
    if match is None or not match.start() or (measure := read_measure(match[1], problem)) is None:
        return None
    number = without_groups(text[: match.start()].strip())
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
