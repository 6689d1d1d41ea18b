r"""An answer that repeats the question instead of answering it.

Where the gold is a number, `\boxed{2+3}`, `\boxed{48/2}` and `\boxed{\sqrt{16}}` are no answers: the symbolic
comparison would do the sum for the policy. Fractions stay (`\frac{6}{8}` for `\frac{3}{4}`), unless they are really
integers, or the very fraction that the problem asks to convert. Where the gold is no number, an expression that
stands word for word in the problem is no answer either. `RewardConfig(accept_expressions=True)` lets all of them count.
"""

import re

from openrlhf_math.rewards.gold import Gold
from openrlhf_math.rewards.notation import key, tidy, unstyled
from openrlhf_math.rewards.number import read_number
from openrlhf_math.rewards.shape import shape

_OPERATION = re.compile(
    r"[+*/^!|]|-\s*[-(]|(?<=[0-9A-Za-z)}\]])\s*-|\)\s*\(|[0-9]\s*\(|\b(?:mod|choose|of)\b"
    r"|\\(?!circ|pi|infty|text|mathrm|mathbf|approx|in\b|ldots|dots)[a-zA-Z]+"
)
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
_FRACTION = re.compile(r"\\frac\{([0-9]+)\}\{([0-9]+)\}")
_CONVERSION = re.compile(r"decimal|percent|fraction|mixed|simpl|reduce|lowest|convert|express|write", re.IGNORECASE)
_MAX_QUOTE = 200
_MAX_PROBLEM = 20_000
_DIGITS = re.compile(r"[0-9]+(?:[.,][0-9]+)*")


def restated(gold: Gold, answer: str, problem: str | None) -> bool:
    """Whether the tidied answer leaves the work of the question undone. The same text as the gold never does."""
    if key(answer) == gold.key:
        return False
    number = read_number(answer)
    if number and number.form in ("integer", "decimal", "repeating"):
        return False
    if gold.number and number:
        if number.form == "fraction" and number.value.denominator == 1 and gold.number.form != "fraction":
            return True
        return bool(problem and _CONVERSION.search(problem)) and _quoted(answer, problem)
    if shape(answer).kind == "list":
        return False
    if gold.number:
        if gold.number.unit == "degree" and r"\pi" in answer:
            return False  # the angle in radians
        plain = unstyled(answer)
        return bool(_OPERATION.search(plain) or _WORD.search(plain)) or len(_DIGITS.findall(plain)) > 1
    return bool(_OPERATION.search(answer)) and _quoted(answer, problem)


def _quoted(answer: str, problem: str | None) -> bool:
    """Whether the answer stands word for word in the problem, not as a part of something longer."""
    if not problem or len(answer) > _MAX_QUOTE:
        return False
    signs = (re.escape(sign) for sign in _slashed(key(answer)) if sign != " ")
    quoted = rf"(?<![0-9A-Za-z.^_]){r' *'.join(signs)}(?![0-9A-Za-z^_])"
    return re.search(quoted, _slashed(tidy(problem[-_MAX_PROBLEM:]))) is not None


def _slashed(text: str) -> str:
    return _FRACTION.sub(r"\1/\2", text)
