"""Attempts into equivalence classes: which of them give the same answer, mathematically.

Texts that differ only in spelling are put together first, so that 32 attempts with three answers cost three
comparisons. What is left is compared by the grader, whose workers bound what a hostile answer can cost.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

from openrlhf_math.rewards import Grade, GradingPool
from openrlhf_math.rewards.notation import MAX_ANSWER, key, tidy
from openrlhf_math.rewards.number import read_number
from openrlhf_math.rewards.outcome import Open, begin

# A problem whose answers hang the grader this often is not worth more of its deadlines.
MOST_UNDECIDED = 4

Same = Callable[[str, str], bool | None]


def group(answers: Sequence[str | None], same: Same) -> list[int | None]:
    """The class of every answer, numbered by first appearance; None for an attempt without an answer.

    same: whether two texts are one answer, None if nobody can tell, which keeps them apart.

    Every text is compared with one representative of each class, the shortest text of the class. Chains are not
    followed: `5 cm` may count for `5` and `5 m` too, yet they are not each other. Texts are taken shortest first, so
    the classes do not depend on the order of the attempts.
    """
    keys = [_key(answer) if answer and answer.strip() else None for answer in answers]
    texts: dict[str, str] = {}
    for one, answer in zip(keys, answers, strict=True):
        if one is not None and answer is not None:
            texts[one] = min(texts.get(one, answer), answer, key=_shortest)
    representatives: list[str] = []
    class_of: dict[str, str] = {}
    for one in sorted(texts, key=lambda one: _shortest(texts[one])):
        found = next((other for other in representatives if same(texts[other], texts[one])), None)
        if found is None:
            representatives.append(one)
        class_of[one] = found or one
    numbers: dict[str, int] = {}
    return [None if one is None else numbers.setdefault(class_of[one], len(numbers)) for one in keys]


def _shortest(text: str) -> tuple[int, str]:
    return len(text), text


@lru_cache(maxsize=1 << 14)
def _key(answer: str) -> str:
    """What all spellings of an answer share. A text too long to be an answer is the same only letter by letter."""
    return answer.strip() if len(answer) > MAX_ANSWER else key(answer) or answer.strip()


class GraderSays:
    """`same` for the answers of one problem: the grader takes one of them for the other, whichever is the gold.

    Exact values that differ are different at once: each text is computed once, and only texts with the same values, or
    of another kind, are compared in pairs.

    compared: pairs asked. undecided: pairs that nobody could tell within the limits, and texts that could not be
    computed within them, which stay apart from all others. After MOST_UNDECIDED of these no more pairs are asked.
    """

    def __init__(self, pool: GradingPool, problem: str | None = None) -> None:
        self._pool, self._problem = pool, problem
        self._verdicts: dict[tuple[str, str], bool | None] = {}
        self._values: dict[str, str | None] = {}
        self.undecided = 0

    @property
    def compared(self) -> int:
        return len(self._verdicts)

    def __call__(self, first: str, second: str) -> bool | None:
        pair = (first, second) if first < second else (second, first)
        if pair not in self._verdicts:
            if self.undecided >= MOST_UNDECIDED or len(first) > MAX_ANSWER or len(second) > MAX_ANSWER:
                return None
            if self._differ(first, second):
                return False
            if None in (self._values.get(first, ""), self._values.get(second, "")):
                return None
            self._verdicts[pair] = self._ask(first, second)
            self.undecided += self._verdicts[pair] is None
        return self._verdicts[pair]

    def _differ(self, first: str, second: str) -> bool:
        """Whether both are exact values, and not the same."""
        texts = [tidy(first), tidy(second)]
        if all(map(read_number, texts)):
            return False  # compared without a worker
        values = []
        for said, text in zip((first, second), texts, strict=True):
            if said not in self._values and self.undecided < MOST_UNDECIDED:
                self._values[said] = self._pool.fingerprint_now(text, self._problem)
                self.undecided += self._values[said] is None
            values.append(self._values.get(said))
        return all(values) and values[0] != values[1]

    def _ask(self, first: str, second: str) -> bool | None:
        pairs = [(_boxed(second), first), (_boxed(first), second)]
        begun = [begin(response, gold, self._problem, self._pool.config) for response, gold in pairs]
        if any(isinstance(one, Grade) and one.outcome == "correct" for one in begun):
            return True
        # Symbolic work is the same either way round, so it is done once.
        left = next((pair for pair, one in zip(pairs, begun, strict=True) if isinstance(one, Open)), None)
        if left is None:
            return False
        grade = self._pool.grade_now(*left, self._problem)
        return None if grade.outcome == "undecided" else grade.outcome == "correct"


def _boxed(answer: str) -> str:
    # Behind a closed thinking part the box is read in either style.
    return f"</think>\\boxed{{{answer}}}"
