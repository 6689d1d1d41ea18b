r"""Step 3b, inside a worker: math-verify on one gold and one answer. No time limit here; the pool has one.

Texts it says no to are compared once more in the other readings they may have: `12.5\%` as `12.5`, `30^\circ` as
`\frac{\pi}{6}`, `1 \pm 2` as `3, -1`, `i` as the imaginary unit, a column as a tuple, `x<0 \text{ or } x>1` as a
union of intervals.
"""

import logging
import re
from functools import lru_cache

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of the missing time limit, which is ours

import sympy  # noqa: E402
from math_verify import LatexExtractionConfig, parse, verify  # noqa: E402

from openrlhf_math.rewards.shape import shape  # noqa: E402

# The whole text or nothing: without an anchor it takes any part that it can read, `\frac{1}{2}` of `(\frac{1}{2},3)+1`.
_CONFIG = (LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False),)

_BASIS = re.compile(
    r"\\(?:mathbf|boldsymbol|hat)\s*\{(?:\\hat\s*)?\{?\\?([ijk0])(?:math)?\}?\}"
)  # math-verify drops them
_DEGREES = re.compile(r"(?<![0-9.])([0-9.]+) ?\^ ?(?:\{ ?)?\\circ(?: ?\})?")
_IMAGINARY = re.compile(r"(?<![a-zA-Z\\])i(?![a-zA-Z])|\\sqrt\s*\{\s*-")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|leq|geq|lt|gt)(?![a-zA-Z])")
_FALLING = re.compile(r"\A([^<>\\]+)(>|\\geq?(?![a-zA-Z]))([^<>\\]+)(>|\\geq?(?![a-zA-Z]))([^<>\\]+)\Z")
_COLUMN = re.compile(r"\\begin\{[pb]matrix\}([^&\\]{0,60}(?:\\\\[^&\\]{0,60}){0,20})\\end\{[pb]matrix\}")
_RISES = {">": "<", r"\ge": r"\le", r"\geq": r"\leq"}


def equivalent(gold: str, answer: str) -> bool:
    """Whether two tidied LaTeX texts denote the same mathematical object. May take for ever, or all memory."""
    golds, answers = _parse(gold), _parse(answer)
    if _verify(golds, answers):
        return True
    if any(_verify(_parse(one), _parse(other)) for one, other in _readings(gold, answer)):
        return True
    if _IMAGINARY.search(gold + " " + answer) and _verify(_complex(golds), _complex(answers)):
        return True
    return _same_region(gold, answer)


def _readings(gold: str, answer: str) -> list[tuple[str, str]]:
    readings = []
    if gold.endswith("%") != answer.endswith("%"):
        readings.append((gold.rstrip("% "), answer.rstrip("% ")))
    if r"\circ" in gold + answer:
        readings.append((_in_radians(gold), _in_radians(answer)))
    if r"\pm" in gold + answer:
        readings.append((_both_signs(gold), _both_signs(answer)))
    if "matrix}" in gold + answer:
        readings.append((_COLUMN.sub(_as_tuple, gold), _COLUMN.sub(_as_tuple, answer)))
    if _RELATION.search(gold + answer):
        readings.append((_rising(gold), _rising(answer)))
    return [reading for reading in readings if reading != (gold, answer)]


def _in_radians(text: str) -> str:
    return _DEGREES.sub(r"{(\\frac{\1\\pi}{180})}", text)


def _both_signs(text: str) -> str:
    if r"\pm" not in text or shape(text).kind != "one":
        return text
    return text.replace(r"\pm", "+") + ", " + text.replace(r"\pm", "-")


def _as_tuple(column: re.Match) -> str:
    return "(" + column[1].replace(r"\\", ",") + ")"


def _rising(text: str) -> str:
    """`2 > x > 1` -> `1 < x < 2`."""
    match = _FALLING.match(text)
    if not match:
        return text
    high, first, middle, second, low = match.groups()
    return f"{low} {_RISES[second]} {middle} {_RISES[first]} {high}"


def _complex(parsed: tuple) -> tuple:
    unit = {
        symbol: sympy.I
        for one in parsed
        if isinstance(one, sympy.Basic)
        for symbol in one.free_symbols
        if symbol.name == "i"
    }
    return tuple(one.subs(unit).doit() if isinstance(one, sympy.Basic) else one for one in parsed)


def _same_region(gold: str, answer: str) -> bool:
    r"""Compare `x < 0 \text{ or } x > 1` with `(-\infty,0) \cup (1,\infty)`, either way round."""
    if not _RELATION.search(gold + answer):
        return False
    regions = [_region(gold), _region(answer)]
    return None not in regions and regions[0] == regions[1]


def _region(text: str) -> sympy.Set | None:
    pieces = []
    for item in shape(text).items if shape(text).kind == "list" else (text,):
        parsed = next((one for one in _parse(item) if isinstance(one, sympy.Basic)), None)
        if isinstance(parsed, sympy.Set):
            pieces.append(parsed)
        elif isinstance(parsed, (sympy.core.relational.Relational, sympy.And)) and len(parsed.free_symbols) == 1:
            try:
                pieces.append(parsed.as_set())
            except NotImplementedError:  # periodic, or of more than one kind
                return None
        else:
            return None
    return sympy.Union(*pieces)


def _verify(golds: tuple, answers: tuple) -> bool:
    return verify(list(golds), list(answers), timeout_seconds=None, allow_set_relation_comp=True, raise_on_error=True)


@lru_cache(maxsize=1024)
def _parse(text: str) -> tuple:
    text = _BASIS.sub(r"\\vec{\1}", text)
    return tuple(parse(r"\boxed{" + text + "}", _CONFIG, parsing_timeout=None, raise_on_error=True))
