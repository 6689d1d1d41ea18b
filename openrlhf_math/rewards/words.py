r"""Answers in words: `\text{Evelyn}`, `no solution`, `all real numbers`, `one hundred`, `6th`."""

import re
from fractions import Fraction

from openrlhf_math.rewards.notation import unstyled

_STYLED_WORD = re.compile(r"\\(?:text|textbf|textit|textrm|texttt|mathrm|mbox) ?\{ ?[A-Za-z][A-Za-z]+")
_WORDS = re.compile(r"\A[A-Za-z][A-Za-z'’ .\-]*\Z")
_BARE_WORD = re.compile(r"[A-Za-z]{3,}")
_LETTERS = re.compile(r"\A(?:[u-z]{3,4}|abc|acb|bac|bca|cab|cba|abcd)\Z")
_VOWEL = re.compile(r"[aeiouyAEIOUY]")
_FILLER = re.compile(r"\b(?:the|an|a)\b|(?<=[a-z])-(?=[a-z])|[\s.,;:!?'’`\"]")
_ORDINAL = re.compile(r"\A(?:the )?([0-9]{1,6}) ?(?:\^ ?\{? ?)?(?:st|nd|rd|th)(?: ?\})?\b", re.IGNORECASE)
_EXCEPT = re.compile(r"\Aall real numbers (?:except|but|other than|without|except for) (-?[0-9]{1,9})\Z")
_DATE = re.compile(r"\A([a-z]{3,9})\.? ([0-9]{1,2})(?:st|nd|rd|th)?(?:, ?([0-9]{4}))?\Z")
_SPACES = re.compile(r" +")
_MONTHS = {name[:3]: name for name in (
    (
        "january february march april may june july august september october november december"
    ).split()
)}  # fmt: skip

_NOTHING = frozenset(
    ("no solution", "no solutions", "no real solution", "no real solutions", "none", "empty set", "the empty set",
     "there is no solution", "there are no solutions", "no such numbers", "no real roots", "no solution exists")
)  # fmt: skip
_EVERYTHING = frozenset(
    ("all real numbers", "all reals", "all real", "every real number", "the real numbers", "all real values")
)
_MEANINGS = {
    "dne": "does not exist", "the limit does not exist": "does not exist", "limit does not exist": "does not exist",
    "it does not exist": "does not exist", "doesn't exist": "does not exist",
    "infinite": "infinitely many", "infinitely many solutions": "infinitely many",
    "there are infinitely many": "infinitely many", "an infinite number": "infinitely many",
    "infinite solutions": "infinitely many", "infinitely many solutions exist": "infinitely many",
}  # fmt: skip
_LEADS = ("they are ", "it is ", "he is ", "she is ", "this is ", "there are ", "there is ")
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_ORDINALS = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
).split()
_PARTS = {
    "half": 2,
    "third": 3,
    "thirds": 3,
    "quarter": 4,
    "quarters": 4,
    "fourth": 4,
    "fourths": 4,
    "fifth": 5,
    "fifths": 5,
}


def is_words(text: str) -> bool:
    r"""Whether the answer is a word, `\text{Evelyn}` or `Monday`, and no product of variables, `xyz`."""
    plain = unstyled(text)
    if not _WORDS.match(plain):
        return False
    if _STYLED_WORD.search(text):
        return True
    return any(_VOWEL.search(word) for word in _BARE_WORD.findall(plain) if not _LETTERS.match(word))


def same_words(gold: str, answer: str) -> bool:
    """Words are equal apart from case, articles and punctuation, or if they mean the same."""
    if _denies(gold) != _denies(answer):
        return False
    one, other = letters(gold), letters(answer)
    return one == other != "" or meaning(gold) == meaning(answer) is not None and one != "" != other


def _denies(text: str) -> bool:
    """Whether words are behind the sign of negation of a programming language: `!Yes`."""
    return unstyled(text).lstrip(" (").startswith("!")


def letters(text: str) -> str:
    return _FILLER.sub("", unstyled(text).strip("()").casefold())


def meaning(text: str) -> tuple | None:
    """What words mean: ("nothing",), ("everything",), ("number", Fraction), ("ordinal", int) or ("words", letters)."""
    if _denies(text):
        return None
    plain = _SPACES.sub(" ", unstyled(text).replace("’", "'").casefold()).strip(" .,;:!()")
    if plain in _NOTHING:
        return ("nothing",)
    if plain in _EVERYTHING:
        return ("everything",)
    if match := _EXCEPT.match(plain):
        return ("everything but", Fraction(match[1]))
    if match := _ORDINAL.match(plain):
        return ("ordinal", int(match[1]))
    if plain.removeprefix("the ").partition(" ")[0] in _ORDINALS and " " not in plain.removeprefix("the "):
        return ("ordinal", _ORDINALS.index(plain.removeprefix("the ")))
    if (match := _DATE.match(plain)) and match[1][:3] in _MONTHS and _MONTHS[match[1][:3]].startswith(match[1]):
        return ("date", _MONTHS[match[1][:3]], int(match[2]), match[3])
    number = number_of_words(plain)
    if number is not None:
        return ("number", number)
    plain = _MEANINGS.get(plain, plain)
    for lead in _LEADS:
        plain = plain.removeprefix(lead)
    found = letters(plain)
    return ("words", found) if found and not any(sign.isdigit() for sign in found) else None


def number_of_words(text: str) -> Fraction | None:
    """`negative three`, `one hundred and five`, `one half`; None if the words are not numbers."""
    words = [word for word in text.casefold().replace("-", " ").split() if word != "and"]
    if not words or text.lstrip().startswith("-"):
        return None
    sign = 1
    if words[0] in ("negative", "minus"):
        sign, words = -1, words[1:]
        if len(words) == 1 and words[0].isdigit() and len(words[0]) < 40:
            return Fraction(-int(words[0]))
    if not words or len(words) > 20:
        return None
    if words[-1] in _PARTS and (
        len(words) == 1 and words[0] == "half" or len(words) == 2 and words[0] in ("a", *_UNITS)
    ):
        top = 1 if len(words) == 1 or words[0] == "a" else _UNITS.index(words[0])
        return Fraction(sign * top, _PARTS[words[-1]])
    total, part = 0, 0
    for word in words:
        if word in _UNITS:
            part += _UNITS.index(word)
        elif word in _TENS:
            part += 10 * (_TENS.index(word) + 2)
        elif word == "hundred":
            part = max(part, 1) * 100
        elif word in _SCALES:
            total, part = total + max(part, 1) * _SCALES[word], 0
        else:
            return None
    return Fraction(sign * (total + part))
