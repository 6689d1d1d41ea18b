r"""Answers that a computer algebra system takes for something they are not.

math-verify reads a word as a product of its letters, `10:30` as a third and `1:2:3` as a sixth. `1010_2` and `1010_3`
are the same to it, and so are `x` and `X`, and `0.000000001` and `0.000000002`. It drops the units of `5\text{ cm}` and
`5\text{ m}`, the dots of `1, 2, \ldots` and most of what stands in `\text{}`. They are compared here as what they are.
"""

import re
from fractions import Fraction
from math import gcd

from openrlhf_math.rewards.gold import Gold
from openrlhf_math.rewards.notation import unstyled
from openrlhf_math.rewards.number import Number, read_number
from openrlhf_math.rewards.shape import sides
from openrlhf_math.rewards.units import measured

_STYLED_WORD = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox)\s*\{\s*[A-Za-z][A-Za-z]+")
_WORDS = re.compile(r"\A[A-Za-z][A-Za-z'’ .\-]*\Z")
_BARE_WORD = re.compile(r"[A-Za-z]{3,}")
_VOWEL = re.compile(r"[aeiouyAEIOUY]")
_FILLER = re.compile(r"\b(?:the|an|a)\b|(?<=[a-z])-(?=[a-z])|[\s.,;:!?'’`\"]")
_UNSTYLED_UNIT = re.compile(r"(?<=[0-9}]) ([a-zA-Z]{1,40})\Z")
_TEXT = re.compile(r"\\(?:text[a-z]*|mbox)\s*\{([^{}]*)\}")
_STYLED = re.compile(r"\\(?:text[a-z]*|mbox|math[a-z]+)\s*\{([^{}]*)\}")
_JOINT = re.compile(r"\A[\s,.;]*(?:(?:and|or)[\s,.;]*)?\Z", re.IGNORECASE)
_LONG_DECIMAL = re.compile(r"\.[0-9]+\s*\\ldots")
# Below this, math-verify's six decimal places hide what differs by more than that part of itself.
TINY, PART = Fraction(1, 1000), Fraction(1, 1000)
_CLOCK = re.compile(r"([0-9]{1,2}):([0-5][0-9])(?![0-9])")
_INFINITE = re.compile(r"\A([+-]?) ?\\infty\Z")
_INDEXED = re.compile(r"[0-9)]_")
_BASED = re.compile(r"\A([0-9A-Fa-f]+)_\{? ?([0-9]+) ?\}?\Z")


def misread(gold: Gold, answer: str) -> bool | None:
    """Compare a tidied answer with a gold of another key, if either is of these kinds; None if neither is."""
    if _is_clock(gold.text):
        return same_words(gold.text, answer) if _is_clock(answer) else False
    if _goes_on(gold.text) != _goes_on(answer):
        return False
    if _INFINITE.match(gold.text):  # to a computer algebra system `\\infty + 1` and `7\\infty` are the same
        match = _INFINITE.match(sides(answer)[-1])
        return bool(match) and (match[1] == "-") == (gold.text[0] == "-")
    if answer.endswith("%") and not gold.text.endswith("%") and not read_number(sides(answer)[-1]):
        return False
    if _INDEXED.search(answer) and not _BASED.match(answer) and not _INDEXED.search(gold.text):
        return False
    unit = _unit(answer)
    if unit and _unit(gold.text) not in ("", unit):
        return False
    if len(ratio := _ratio(gold.text)) > 2:
        return _ratio(answer) == ratio
    if gold.number:
        number = read_number(answer)
        if number and _differ_though_tiny(gold.number, number):
            return False
        return _same_base(gold.text, answer) if "_" in answer else None
    if is_words(gold.text):
        return same_words(gold.text, answer)
    if len(gold.text) == len(answer) == 1 and gold.text.isalpha():
        return False
    return _same_base(gold.text, answer)


def is_words(text: str) -> bool:
    r"""Whether the answer is a word, `\text{Evelyn}` or `Monday`, and no product of variables, `xyz`."""
    plain = unstyled(text)
    if not _WORDS.match(plain):
        return False
    return bool(_STYLED_WORD.search(text)) or any(map(_VOWEL.search, _BARE_WORD.findall(plain)))


def same_words(gold: str, answer: str) -> bool:
    """Words are equal apart from case, articles and punctuation."""
    return _letters(gold) == _letters(answer) != ""


def _unit(text: str) -> str:
    number = read_number(text) or read_number(_UNSTYLED_UNIT.sub(r"\\text{ \1}", text))  # `12 m` may be a product
    return number.unit if number else measured(text)[1]


def _ratio(text: str) -> tuple[Fraction, ...]:
    """`2:4:6` -> 1, 2, 3: the terms of a ratio as multiples of the first."""
    terms = [read_number(term.strip()) for term in text.split(":")] if ":" in text else []
    if not all(term and term.value for term in terms):
        return ()
    return tuple(term.value / terms[0].value for term in terms)


def _goes_on(text: str) -> bool:
    r"""Whether a text ends in dots, `1, 2, \ldots`, that are not the further places of a decimal."""
    return r"\ldots" in _LONG_DECIMAL.sub("", text)


def qualified(gold: Gold, answer: str) -> bool:
    r"""Whether text that is no unit stands beside the answer and none in the gold: `5\text{k}`, `\text{not }\pi`."""
    if _TEXT.search(measured(gold.text)[0]):
        return False
    texts = (_STYLED if gold.number else _TEXT).findall(measured(answer)[0])
    return not all(map(_JOINT.match, texts))


def _differ_though_tiny(gold: Number, answer: Number) -> bool:
    size = max(abs(gold.value), abs(answer.value))
    return gold.percent == answer.percent and size < TINY and abs(gold.value - answer.value) > size * PART


def _letters(text: str) -> str:
    return _FILLER.sub("", unstyled(text).strip("()").casefold())


def _is_clock(text: str) -> bool:
    """`10:30` is a time: as a ratio it would be written `1:3`."""
    match = _CLOCK.match(unstyled(text))
    return bool(match) and gcd(int(match[1]), int(match[2])) != 1


def _same_base(gold: str, answer: str) -> bool | None:
    """`1010_2` is `1010` or `1010_{2}`, not `1010_3`, nor `10`, its value: the question asked for that base."""
    wanted, given = _BASED.match(gold), _BASED.match(answer)
    if not (wanted or given):
        return None
    digits = [match[1] if match else text for match, text in ((wanted, gold), (given, answer))]
    if given and not 2 <= int(given[2][:3]) <= 36:
        return False
    return digits[0] == digits[1] and not (wanted and given and wanted[2] != given[2])
