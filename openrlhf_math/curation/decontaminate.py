"""Problems of a benchmark among the training problems: by n-gram overlap, and as near-duplicates.

n-grams are those of DeepSeekMath (Shao et al. 2024, section 2.1): 10 words; of a benchmark problem with fewer, but at
least `SHORTEST`, the whole text. As in Tulu 3 (Lambert et al. 2024, section 3.2) a problem is hit when shared n-grams
cover at least half of *its* words, so that a phrase all competitions use ("where m and n are relatively prime positive
integers") is no hit. A hit has the benchmark problem's numbers and signs in it, in their order; a row that shares the
words but has other numbers is another problem, and is reported without being dropped. Other words do not save a row
from an n-gram hit: a false drop costs one row, a missed one the benchmark.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from openrlhf_math.curation.near_duplicates import THRESHOLD, band_keys, similarity
from openrlhf_math.curation.normalise import is_number, is_symbol, tokens

SHORTEST = 6


@dataclass(frozen=True, slots=True)
class Overlap:
    """How a row is judged against the benchmarks. share: of a benchmark problem's words, covered by shared n-grams."""

    ngram: int = 10
    share: float = 0.5
    drop_other_numbers: bool = False

    def __post_init__(self) -> None:
        if self.ngram < SHORTEST:
            raise ValueError(f"--ngram is {self.ngram}, it must be at least {SHORTEST} words")
        if not 0 < self.share <= 1:
            raise ValueError(f"--ngram-share is {self.share}, it must be above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class BenchmarkProblem:
    benchmark: str
    row: int
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A benchmark problem found in a row.

    how: "exact", "near" or "ngram". share: of tokens alike ("near"), or of the benchmark's words covered ("ngram").
    same_numbers: False for a row that shares the words but has other numbers or signs.
    """

    problem: BenchmarkProblem
    how: str
    share: float
    same_numbers: bool = True


class BenchmarkIndex:
    """The benchmarks, ready to be looked up; they are small and held in memory."""

    def __init__(self, problems: Sequence[BenchmarkProblem], overlap: Overlap) -> None:
        self.problems = problems
        self.overlap = overlap
        self.tokens = [tokens(problem.text) for problem in problems]

    @cached_property
    def _by_ngram(self) -> dict[tuple, list[int]]:
        index: dict[tuple, list[int]] = defaultdict(list)
        for number, words in enumerate(self.tokens):
            for ngram in set(_ngrams(words, self._length(words))):
                index[ngram].append(number)
        return index

    @cached_property
    def _by_key(self) -> dict[int, list[int]]:
        index: dict[int, list[int]] = defaultdict(list)
        for number, keys in enumerate(band_keys(self.tokens).tolist()):
            for key in keys:
                index[key].append(number)
        return index

    @cached_property
    def _lengths(self) -> list[int]:
        return sorted({self._length(words) for words in self.tokens} - {0})

    def _length(self, words: Sequence[str]) -> int:
        """Of the n-grams of a problem: shorter ones count as a whole, the shortest not at all."""
        length = min(self.overlap.ngram, len(words))
        return length if length >= SHORTEST else 0

    def find(self, words: Sequence[str], keys: np.ndarray) -> Hit | None:
        """The nearest benchmark problem that a row has in it, or None.

        words: the row's tokens. keys: its `band_keys`, uint64[BANDS + 1].
        """
        hits = [hit for hit in (self._near(words, keys), self._overlapping(words)) if hit]
        return max(hits, key=lambda hit: (hit.same_numbers, hit.share)) if hits else None

    def _near(self, words: Sequence[str], keys: np.ndarray) -> Hit | None:
        met = sorted({number for key in keys.tolist() for number in self._by_key.get(key, ())})
        shares = [(similarity(words, self.tokens[number]), -number) for number in met]
        share, number = max(shares, default=(0.0, 0))
        if share < THRESHOLD:
            return None
        return Hit(self.problems[-number], "exact" if share == 1 else "near", share)

    def _overlapping(self, words: Sequence[str]) -> Hit | None:
        shared: dict[int, set[tuple]] = defaultdict(set)
        for length in self._lengths:
            for ngram in self._by_ngram.keys() & set(_ngrams(words, length)):
                for number in self._by_ngram[ngram]:
                    shared[number].add(ngram)
        best = None
        ours = _values(words)
        for number in sorted(shared):
            share = _covered(self.tokens[number], shared[number])
            if share >= self.overlap.share:
                same = _within(_values(self.tokens[number]), ours)
                if best is None or (same, share) > (best.same_numbers, best.share):
                    best = Hit(self.problems[number], "ngram", share, same)
        return best


def _ngrams(words: Sequence[str], length: int) -> list[tuple]:
    return list(zip(*(words[start:] for start in range(length)), strict=False)) if length else []


def _values(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in words if is_number(word) or is_symbol(word))


def _covered(words: Sequence[str], shared: set[tuple]) -> float:
    """The share of the words that stand in one of the shared n-grams."""
    length = len(next(iter(shared)))
    covered = np.zeros(len(words), bool)
    for start, ngram in enumerate(_ngrams(words, length)):
        if ngram in shared:
            covered[start : start + length] = True
    return float(covered.mean())


def _within(part: tuple, whole: tuple) -> bool:
    """Whether `part` stands in `whole` as one run."""
    return any(whole[start : start + len(part)] == part for start in range(len(whole) - len(part) + 1))
