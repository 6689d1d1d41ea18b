"""Attempts into clusters: which of them give the same answer, mathematically.

Texts that differ only in spelling are put together first, so that 32 attempts with three answers cost three
comparisons. What is left is compared by the grader, whose workers bound what a hostile answer can cost.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from copy import copy
from functools import lru_cache
from heapq import heapify, heappop, heappush

from openrlhf_math.rewards import Grade, GradingPool
from openrlhf_math.rewards.equivalence import same_number
from openrlhf_math.rewards.extract import extract
from openrlhf_math.rewards.gold import UnparsableGold, parse_gold
from openrlhf_math.rewards.notation import MAX_ANSWER, key, tidy
from openrlhf_math.rewards.number import Number, read_number
from openrlhf_math.rewards.outcome import Open, begin

# A problem whose answers hang the grader this often is not worth more of its deadlines.
MOST_UNRESOLVED = 4

Same = Callable[[str, str], bool | None]
Text = tuple[int, str]  # its length and itself: shortest first


def group(answers: Sequence[str | None], same: Same) -> list[int | None]:
    """The cluster of every answer, numbered by first appearance; None for an attempt without one."""
    clusters = AnswerClusters(same)
    for answer in answers:
        clusters.add(answer)
    return clusters.numbers()


class AnswerClusters:
    """Answers that are put into clusters as they come.

    same: whether two texts are one answer, None if undecided, which keeps them apart.

    Every text is compared with one representative of each cluster, the shortest text of the cluster. Chains are not
    followed: `5 cm` may count for `5` and `5 m` too, yet they are not each other. Texts are taken shortest first, so
    the clusters do not depend on the order of the attempts.

    A text that comes late may sort before others: those of which it is the representative now move to it, and so on
    with what they represented. Everything else stays, so that a pair of texts is asked once.
    """

    def __init__(self, same: Same) -> None:
        self._same = same
        self._keys: list[str | None] = []  # of every answer
        self._texts: dict[str, Text] = {}  # by key
        self._order: list[Text] = []  # of the same
        self._representatives: list[Text] = []  # in order, too
        self._cluster_of: dict[Text, Text] = {}

    def copy(self) -> "AnswerClusters":
        """One that changes alone."""
        other = copy(self)
        for name in ("_keys", "_texts", "_order", "_representatives", "_cluster_of"):
            setattr(other, name, getattr(self, name).copy())
        return other

    def add(self, answer: str | None) -> None:
        name = _key(answer) if answer and answer.strip() else None
        self._keys.append(name)
        if name is None or answer is None:
            return
        text, known = (len(answer), answer), self._texts.get(name)
        if known is None or text < known:
            self._texts[name] = text
            lost = self._without(known) if known else []
            insort(self._order, text)
            self._settle([text, *lost])

    def numbers(self) -> list[int | None]:
        """The cluster of every answer, numbered by first appearance; None without an answer."""
        found: dict[Text, int] = {}
        clusters = [None if name is None else self._cluster_of[self._texts[name]] for name in self._keys]
        return [None if one is None else found.setdefault(one, len(found)) for one in clusters]

    def _without(self, text: Text) -> list[Text]:
        """Take out a text. Returns those that it represented."""
        self._order.remove(text)
        del self._cluster_of[text]
        return self._step_down(text)

    def _step_down(self, text: Text) -> list[Text]:
        """Take out a representative. Returns the others of its cluster, which have none then."""
        if text not in self._representatives:
            return []
        self._representatives.remove(text)
        left = [one for one, other in self._cluster_of.items() if other == text and one != text]
        for one in left:
            del self._cluster_of[one]
        return left

    def _settle(self, texts: list[Text]) -> None:
        """Find the representatives of these, and of all that move with them. What moves sorts behind what moved it."""
        heapify(texts)
        while texts:
            text = heappop(texts)
            before = self._representatives[: bisect_left(self._representatives, text)]
            found = next((other for other in before if self._same(other[1], text[1])), None)
            moves = self._step_down(text) if found else []
            if found is None and text not in self._representatives:
                insort(self._representatives, text)
                moves = self._drawn_to(text)
            self._cluster_of[text] = found or text
            for one in moves:
                if one not in texts:
                    heappush(texts, one)

    def _drawn_to(self, text: Text) -> list[Text]:
        """Of the texts behind a new representative those of its cluster: no representative before it has them."""
        behind = self._order[bisect_right(self._order, text) :]
        return [
            one
            for one in behind
            if (known := self._cluster_of.get(one)) and known > text and self._same(text[1], one[1])
        ]


@lru_cache(maxsize=1 << 14)
def _key(answer: str) -> str:
    """What all spellings of an answer share. A text too long to be an answer is the same only letter by letter."""
    return answer.strip() if len(answer) > MAX_ANSWER else key(answer) or answer.strip()


class GraderSays:
    """`same` for the answers of one problem: the grader takes one of them for the other, whichever is the gold.

    Numbers are compared here. Other exact values, equations, lists and regions that differ are different at once: each
    text's fingerprint is computed once, and only texts with the same one, or of another kind, are compared in pairs.
    Of those, texts without a blocking key in common are different at once, too.

    compared: pairs asked. unresolved: pairs that were not decided within the limits, and texts that could not be
    computed within them, which stay apart from all others. After MOST_UNRESOLVED of these no more pairs are asked.
    """

    def __init__(self, pool: GradingPool, problem: str | None = None) -> None:
        self._pool, self._problem = pool, problem
        self._verdicts: dict[tuple[str, str], bool | None] = {}
        self._numbers: dict[str, tuple[Number, Number] | None] = {}
        self._values: dict[str, str | None] = {}
        self._keys: dict[str, frozenset[str]] = {}
        self.unresolved = 0

    @property
    def compared(self) -> int:
        return len(self._verdicts)

    def __call__(self, first: str, second: str) -> bool | None:
        pair = (first, second) if first < second else (second, first)
        if pair not in self._verdicts:
            if self.unresolved >= MOST_UNRESOLVED or len(first) > MAX_ANSWER or len(second) > MAX_ANSWER:
                return None
            if self._differ(first, second):
                return False
            if None in (self._values.get(first, ""), self._values.get(second, "")):
                return None
            self._verdicts[pair] = self._ask(first, second)
            self.unresolved += self._verdicts[pair] is None
        return self._verdicts[pair]

    def _differ(self, first: str, second: str) -> bool:
        """Whether both are numbers, or of one kind with an exact fingerprint, and not the same."""
        one, other = self._number(first), self._number(second)
        if one and other:
            return not (same_number(one[0], other[1]) or same_number(other[0], one[1]))
        values = self._value(first) or "", self._value(second) or ""
        kinds = [one.partition(" ")[0] for one in values]
        if all(values) and kinds[0] == kinds[1]:
            return values[0] != values[1]
        if None in (self._values.get(first, ""), self._values.get(second, "")):
            return False  # not decided, and not worth another of its deadlines
        keys = self._blocking_keys(first), self._blocking_keys(second)
        return all(keys) and keys[0].isdisjoint(keys[1])

    def _number(self, text: str) -> tuple[Number, Number] | None:
        """A text as a number: as a gold answer, and as an answer, whose unit may be in the problem."""
        if text not in self._numbers:
            tidied = tidy(text)
            gold, answer = read_number(tidied), read_number(tidied, self._problem or "")
            self._numbers[text] = (gold, answer) if gold and answer else None
        return self._numbers[text]

    def _value(self, text: str) -> str | None:
        """Its fingerprint, see `GradingPool.fingerprint_now`; None also if the limits are used up."""
        if text not in self._values and self.unresolved < MOST_UNRESOLVED:
            self._values[text] = self._pool.fingerprint_now(tidy(text), self._problem)
            self.unresolved += self._values[text] is None
        return self._values.get(text)

    def _blocking_keys(self, text: str) -> frozenset[str]:
        """Its blocking keys; none where the grader reads another text than this one, as of a box in a box."""
        if text not in self._keys:
            tidied = tidy(text)
            answer = extract(_boxed(text), self._pool.config.style).answer
            alike = answer is not None and tidy(answer) == tidied and _as_gold(text) == tidied
            self._keys[text] = frozenset(self._pool.blocking_keys_now(tidied, self._problem) if alike else ())
        return self._keys[text]

    def _ask(self, first: str, second: str) -> bool | None:
        pairs = [(_boxed(second), first), (_boxed(first), second)]
        begun = [begin(response, gold, self._problem, self._pool.config) for response, gold in pairs]
        if any(isinstance(one, Grade) and one.outcome == "correct" for one in begun):
            return True
        for one in begun:  # (1, 2) is right where 1, 2 is the gold answer, but not the other way round
            outcome = self._pool.conclude_now(one).outcome if isinstance(one, Open) else "wrong"
            if outcome in ("correct", "ungraded"):  # the other way would take another of its deadlines
                return True if outcome == "correct" else None
        return False


def _as_gold(text: str) -> str | None:
    try:
        return parse_gold(text).text
    except UnparsableGold:
        return None


def _boxed(answer: str) -> str:
    # Behind a closed thinking part the box is read in either style.
    return f"</think>\\boxed{{{answer}}}"
