r"""Answers that a computer algebra system takes for something they are not.

math-verify reads a word as a product of its letters, `10:30` as a third, `1010_2` and `1010_3` as the same, and
`x` and `X` too, and drops the units of `5\text{ cm}` and `5\text{ m}`. They are compared here as what they are.
"""

import re
from math import gcd

from openrlhf_math.rewards.gold import Gold
from openrlhf_math.rewards.notation import unstyled
from openrlhf_math.rewards.number import read_number

_STYLED_WORD = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox)\s*\{\s*[A-Za-z][A-Za-z]+")
_WORDS = re.compile(r"[A-Za-z][A-Za-z'’ .\-]*\Z")
_BARE_WORD = re.compile(r"(?=[A-Za-z]*[aeiouyAEIOUY])[A-Za-z]{3,}")
_FILLER = re.compile(r"\b(?:the|an|a)\b|[^a-z0-9]")
_CLOCK = re.compile(r"([0-9]{1,2}):([0-5][0-9])(?![0-9])")
_BASED = re.compile(r"([0-9][0-9A-Fa-f]*|[0-9A-Fa-f]+(?=_\{?16))_\{?\s*([0-9]+)\s*\}?\Z")


def misread(gold: Gold, answer: str) -> bool | None:
    """Compare a tidied answer with a gold of another key, if either is of these kinds; None if neither is."""
    if _is_clock(gold.text):
        return same_words(gold.text, answer) if _is_clock(answer) else False
    if gold.number:
        number = read_number(answer) if gold.number.unit else None
        if number and number.unit and number.unit != gold.number.unit:
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
    return bool(_WORDS.match(plain)) and bool(_STYLED_WORD.search(text) or _BARE_WORD.search(plain))


def same_words(gold: str, answer: str) -> bool:
    """Words are equal apart from case, articles and punctuation."""
    return _letters(gold) == _letters(answer) != ""


def _letters(text: str) -> str:
    return _FILLER.sub("", unstyled(text).lower())


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
    return digits[0] == digits[1] and not (wanted and given and wanted[2] != given[2])
