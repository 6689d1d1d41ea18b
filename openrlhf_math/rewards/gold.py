r"""The reference answer: read once, compared many times."""

import re
from dataclasses import dataclass
from functools import lru_cache

from openrlhf_math.rewards.extract import extract
from openrlhf_math.rewards.notation import MAX_ANSWER, balanced, key, tidy
from openrlhf_math.rewards.number import Number, read_number
from openrlhf_math.rewards.shape import Shape, shape, sides

# Of a gold as written, before its spelling is made plain.
LONGEST_GOLD = 4 * MAX_ANSWER
_INTEGER = re.compile(r"-?[0-9]{1,18}\Z")


class UnparsableGold(ValueError):
    """A reference answer with no answer in it. The message is a sentence that quotes its beginning."""


@dataclass(frozen=True, slots=True)
class Gold:
    """A reference answer: its tidied text, its key for comparing, its value if it is a number, its shape and sides."""

    text: str
    key: str
    number: Number | None
    shape: Shape
    sides: tuple[str, ...]

    @property
    def is_equation(self) -> bool:
        return len(self.sides) == 2 and all(self.sides) and self.shape.kind == "one"


def parse_gold(text: str) -> Gold:
    r"""Read a reference answer: GSM8K's `... #### 72`, a solution with a `\boxed{}`, or the bare answer.

    Raises UnparsableGold if there is no answer in it: it is empty, longer than an answer can be, or its
    braces do not close.
    """
    if not isinstance(text, str):
        raise UnparsableGold(f"the gold answer is {text!r:.60}, it must be text")
    return _parse(text)


ANSWER_PHRASE = "the answer is"


@lru_cache(maxsize=1 << 16)
def _parse(text: str) -> Gold:
    answer = _answer_of(text.strip())
    if _INTEGER.match(answer):
        return Gold(answer, answer, read_number(answer), Shape("one", (answer,)), (answer,))
    if len(answer) > LONGEST_GOLD:
        raise UnparsableGold(f"the gold answer {_quote(answer)} has {len(answer)} characters, {LONGEST_GOLD} are read")
    answer = tidy(answer)
    if not answer:
        raise UnparsableGold(f"the gold answer {_quote(text)} is empty")
    if len(answer) > MAX_ANSWER:
        raise UnparsableGold(
            f"the gold answer {_quote(text)} has {len(answer)} characters, at most {MAX_ANSWER} are read"
        )
    if not balanced(answer):
        raise UnparsableGold(f"the braces in the gold answer {_quote(text)} do not close")
    return gold_of(answer)


def gold_of(text: str) -> Gold:
    """The gold of a text that is tidied and known to be an answer."""
    return Gold(text, key(text), read_number(text), shape(text), tuple(sides(text)))


def _answer_of(text: str) -> str:
    """Of a whole solution: what its last line says the answer is, as MetaMath's, or what is behind #### or in a box."""
    last = text.rpartition("\n")[2]
    if (start := last.lower().rfind(ANSWER_PHRASE)) >= 0:
        text = last[start:]
    if "####" in text:
        after = text.rpartition("####")[2].strip()
        return "" if "\n" in after else after
    if "\\boxed" in text or "\\fbox" in text:
        boxed = extract(text)
        return boxed.answer or "" if boxed.boxes else ""
    return text


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
