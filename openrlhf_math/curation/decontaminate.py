"""Problems of a benchmark among the training problems.

A row is dropped if it is a benchmark problem, holds one, or is a large part of one, however it is written:

- "exact", "near": the two forms are one problem (`alike`), with the variables renamed or not;
- "contains": runs of shared tokens cover at least `share` of the benchmark problem, and its numbers and symbols are all
  in these runs or in the gaps between them, in order. As in Tulu 3 (Lambert et al. 2024, section 3.2) it is the
  *benchmark's* tokens that must be covered, so that a phrase all competitions use ("where m and n are relatively prime
  positive integers") is not a hit. Runs may have changed places, as with the question in front;
- "part": the row is a part of the benchmark problem, and little else.

A row that shares the tokens but has other numbers, or a word in place of its opposite, is another problem: it is
reported without being dropped. So is a row with the same numbers and some of the words ("alike"), which may be a
paraphrase. Other words alone do not save a row that contains a problem: a false drop costs one row, a missed one the
benchmark.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from rapidfuzz.distance import Indel

from openrlhf_math.curation.alike import (
    band_keys,
    changed_places,
    compare_tokens,
    count_unexplained,
    is_content,
    is_negation,
    numbers,
    opposed,
    other_unit,
    replaced,
    stem,
    structure,
    words_opposed,
)
from openrlhf_math.curation.normalise import Form, form, is_number
from openrlhf_math.curation.structure import LETTER_UNITS
from openrlhf_math.curation.vocabulary import BOUNDS

SHORTEST = 3
_PLACES = 24  # of one run of three tokens that are followed: a text that repeats itself stays linear


@dataclass(frozen=True, slots=True)
class Tile:
    """`length` tokens that are in the first text from `first` on, and in the second from `second` on."""

    first: int
    second: int
    length: int


def tiles(first: Sequence[str], second: Sequence[str]) -> list[Tile]:
    """Tiles of at least three tokens that overlap in neither text, the longest chosen first; in order of `first`."""
    places: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for place in range(len(first) - SHORTEST + 1):
        run = tuple(first[place : place + SHORTEST])
        if len(places[run]) < _PLACES:
            places[run].append(place)
    runs = []
    covered: dict[int, int] = {}  # by diagonal: where in the second text the last run on it ends
    for other in range(len(second) - SHORTEST + 1):
        for place in places.get(tuple(second[other : other + SHORTEST]), ()):
            if covered.get(other - place, -1) > other:
                continue
            length = SHORTEST
            while (
                place + length < len(first)
                and other + length < len(second)
                and (first[place + length] == second[other + length])
            ):
                length += 1
            covered[other - place] = other + length
            runs.append((-length, place, other))
    taken, other_taken = bytearray(len(first)), bytearray(len(second))
    found = []
    for negative, place, other in sorted(runs):
        length = -negative
        start = 0
        while start < length:  # what longer tiles left of this run
            while start < length and (taken[place + start] or other_taken[other + start]):
                start += 1
            stop = start
            while stop < length and not (taken[place + stop] or other_taken[other + stop]):
                stop += 1
            if stop - start >= SHORTEST:
                found.append(Tile(place + start, other + start, stop - start))
                taken[place + start : place + stop] = b"\1" * (stop - start)
                other_taken[other + start : other + stop] = b"\1" * (stop - start)
            start = stop
    return sorted(found, key=lambda tile: tile.first)


# A row that is a part of a problem: so much of it is shared, and at least so many tokens and so much of the problem.
PART_OF_ROW, PART_TOKENS, PART_OF_PROBLEM = 0.85, 8, 0.28
LONG_PART_TOKENS, LONG_PART_OF_PROBLEM = 16, 0.2
_MOVED = 4  # tokens of a run that may have changed places
_INSERTED = 6  # tokens that may be put into the end of a problem
_SENTENCE = 6  # tokens of a run that is about a sentence
_LETTERS = frozenset(LETTER_UNITS) | frozenset("aei")
_UNFINISHED = frozenset(("a", "+", "-", "=", "/", "^", "(", "<", ">", "<=", ">="))
_BINDING = frozenset(("-", "/", "^", "sqrt", "!"))  # next to a shared run these change its first or last number
# Of the words of the shorter text, those that the other has: a suspect, and a paraphrase if the
# numbers and symbols are the same, too. Where nearly all tokens agree in order, `alike` has judged what differs.
_SUSPECT_WORDS, _PARAPHRASE_WORDS, _RETYPED = 0.35, 0.6, 0.85
# Where the formulas are as long as this, fewer words must be the same.
_LONG_FORMULAS, _FORMULA_WORDS = 16, 0.5


@dataclass(frozen=True, slots=True)
class Overlap:
    """How a row is judged against the benchmarks.

    ngram: a row is compared with the problems that share so many tokens in a row with it; a problem of fewer is
    found as a whole alone. share: of a benchmark problem's tokens that shared runs must cover.
    """

    ngram: int = 6
    share: float = 0.5
    drop_other_numbers: bool = False

    def __post_init__(self) -> None:
        if self.ngram < 4:
            raise ValueError(f"--ngram is {self.ngram}, it must be at least 4 words")
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

    how: "exact", "near", "contains", "part" or "alike". share: of tokens alike ("near"), of the problem's tokens
    covered ("contains", "part"), or of the words shared ("alike"). same: False for a row that seems to be another
    problem: a suspect. same_numbers: whether the numbers are the problem's.
    """

    problem: BenchmarkProblem
    how: str
    share: float
    same: bool = True
    same_numbers: bool = True


class BenchmarkIndex:
    """The benchmarks, ready to be looked up; they are small and held in memory."""

    def __init__(self, problems: Sequence[BenchmarkProblem], overlap: Overlap) -> None:
        self.problems = problems
        self.overlap = overlap
        self.forms = [form(problem.text) for problem in problems]
        self.cores = [_core(one.tokens) for one in self.forms]

    @cached_property
    def _by_gram(self) -> dict[tuple, list[int]]:
        return _inverted(set(_grams(words, self.overlap.ngram)) for words in self.cores)

    @cached_property
    def _by_key(self) -> dict[int, list[int]]:
        return _inverted(band_keys([one.tokens for one in self.forms]).tolist())

    @cached_property
    def _by_numbers(self) -> dict[tuple, list[int]]:
        return _inverted(filter(None, [_values(words)]) for words in self.cores)

    @cached_property
    def _numbers(self) -> list[Counter[str]]:
        return [Counter(numbers(words)) for words in self.cores]

    @cached_property
    def _renamed(self) -> list[list[str]]:
        return [_renamed(words) for words in self.cores]

    def find(self, row: Form, keys: np.ndarray) -> Hit | None:
        """The nearest benchmark problem that a row is or holds, else a suspect, else None.

        keys: the row's `band_keys`, uint64[BANDS + 1].
        """
        core = _core(row.tokens)
        met = {number for key in keys.tolist() for number in self._by_key.get(key, ())}
        shared = Counter(
            number
            for gram in self._by_gram.keys() & set(_grams(core, self.overlap.ngram))
            for number in self._by_gram[gram]
        )
        met.update(shared)
        ours = Counter(numbers(core))
        hits = []
        renamed = _renamed(core) if met else []
        for number in sorted(met):
            if self._may_be(number, ours):
                hit = self._judge(number, row, core, renamed)
            else:
                hit = self._other_numbers(number, shared[number])
            if hit:
                hits.append(hit)
        if not any(hit.same for hit in hits) and (values := _values(core)):
            hits += [hit for number in self._by_numbers.get(values, ()) if (hit := self._suspect(number, row, core))]
        return max(hits, key=lambda hit: (hit.same, hit.same_numbers, hit.share), default=None)

    def _may_be(self, number: int, ours: Counter[str]) -> bool:
        """Whether a row has half of the numbers of a problem, or the problem half of the row's: else it is another."""
        theirs = self._numbers[number]
        fewer = min(theirs.total(), ours.total())
        return 2 * (theirs & ours).total() >= fewer

    def _other_numbers(self, number: int, grams: int) -> Hit | None:
        """A problem whose words the row has, by the runs they share, with other numbers."""
        share = min((grams + self.overlap.ngram - 1) / max(len(self.cores[number]), 1), 1.0) if grams else 0.0
        return Hit(self.problems[number], "contains", share, False, False) if share >= self.overlap.share else None

    def _judge(self, number: int, row: Form, core: list[str], renamed: list[str]) -> Hit | None:
        problem, ours = self.problems[number], self.forms[number]
        theirs = self.cores[number]
        other_choice = bool(_other_options(row.options, ours.options) and _refers(theirs))
        other_drawing = bool(row.drawing and ours.drawing and row.drawing != ours.drawing)
        ways = [(row.tokens, ours.tokens), (core, theirs)]
        if _may_be_renamed(core, theirs):
            ways.append((renamed, self._renamed[number]))
        if core is row.tokens and theirs is ours.tokens:
            del ways[0]  # neither asks for more than its answer
        for one, other in ways:
            found = compare_tokens(one, other, row.names, ours.names)
            if found.verdict != "other" and len(other) >= 3 or found.verdict == "exact":
                how = "exact" if found.verdict == "exact" else "near"
                return Hit(problem, how, found.likeness, not (other_choice or other_drawing))
        hit = _overlapping(problem, theirs, core, self.overlap)
        if hit and hit.same and other_choice:
            return Hit(problem, hit.how, hit.share, False, hit.same_numbers)
        return hit

    def _suspect(self, number: int, row: Form, core: list[str]) -> Hit | None:
        """A row with the same numbers: a paraphrase, or another problem."""
        theirs = self.cores[number]
        words, others = ({stem(word) for word in text if is_content(word)} for text in (core, theirs))
        share = len(words & others) / max(min(len(words), len(others)), 1)
        if share < _SUSPECT_WORDS:
            return None
        shared_names = row.names & self.forms[number].names
        paraphrase = (
            share >= (_FORMULA_WORDS if len(structure(theirs)) >= _LONG_FORMULAS else _PARAPHRASE_WORDS)
            and min(len(words), len(others)) >= 3
            and _same_formulas(core, theirs)
            and not opposed(core, theirs)
            and _last_name(core, shared_names) == _last_name(theirs, shared_names)
            and not changed_places(core, theirs)
            and Indel.normalized_similarity(core, theirs) < _RETYPED
        )
        return Hit(self.problems[number], "alike", share, paraphrase)


def _overlapping(problem: BenchmarkProblem, theirs: list[str], core: list[str], overlap: Overlap) -> Hit | None:
    """Judge by shared runs. theirs: the tokens of the benchmark problem, core: those of the row."""
    if len(theirs) < overlap.ngram:
        return None
    found = _coherent(tiles(theirs, core), len(theirs))
    if not found:
        return None
    covered = sum(tile.length for tile in found)
    part = covered / len(theirs)
    begin, end = min(tile.second for tile in found), max(tile.second + tile.length for tile in found)
    if all(one.second < other.second for one, other in pairwise(found)):
        inside = theirs[found[0].first : found[-1].first + found[-1].length]
        same_inside = structure(inside) == structure(core[begin:end])
        same_words = count_unexplained(inside, core[begin:end]) is not None
        if same_inside and same_words:
            if part >= overlap.share and _same_ends(found, theirs, core, False):
                return Hit(problem, "contains", part)
            if (
                (
                    covered >= max(PART_TOKENS, PART_OF_PROBLEM * len(theirs))
                    or covered >= max(LONG_PART_TOKENS, LONG_PART_OF_PROBLEM * len(theirs))
                )
                and covered >= PART_OF_ROW * len(core)
                and _same_ends(found, theirs, core, True)
            ):
                return Hit(problem, "part", part)
    elif part >= overlap.share and _is_moved(found, theirs, core[begin:end]):
        return Hit(problem, "contains", part)
    if part >= overlap.share:
        return Hit(problem, "contains", part, False, _values(theirs) == _values(core[begin:end]))
    return None


def _same_ends(found: list[Tile], theirs: list[str], core: list[str], cut: bool) -> bool:
    """Whether what the problem has before and behind the shared runs is in the row, too, in other words.

    cut: whether the row may end there.
    """
    first, last = found[0], found[-1]
    for ours, row, end in (
        (theirs[: first.first][::-1], core[: first.second][::-1], False),
        (theirs[last.first + last.length :], core[last.second + last.length :], True),
    ):
        if cut and not structure(row) and not any(map(is_content, row)):
            if not end and ours and (ours[0] in BOUNDS or is_negation(ours[0])):
                return False  # "the exterior angles" is cut to "angles"
            if words_opposed(Counter(row), Counter(ours[: len(row)])):
                return False
            continue
        if cut and end and len(ours) > len(row) and _is_unfinished(row):
            continue
        near = row[: len(ours) + 1]
        if ours and ours[-1] in row[len(ours) : len(ours) + _INSERTED]:
            near = row[: row.index(ours[-1], len(ours)) + 1]  # with what is put in between
        if not ours:
            if near[:1] and (near[0] in _BINDING or not end and near[0] in BOUNDS):
                return False
            continue
        if structure(ours) not in (structure(near), *([structure(near[:-1])] if len(near) == len(ours) + 1 else [])):
            return False
        if opposed(ours, near[: len(ours)]) or words_opposed(Counter(ours), Counter(near)):
            return False
        both = (ours, near[: len(ours)]) if end else (ours[::-1], near[: len(ours)][::-1])
        if other_unit(*both, theirs, core):
            return False
        if any((is_negation(word) or word in BOUNDS) and word not in ours for word in row[: len(ours) + 2]):
            return False
        lost, added = (
            [word for word in words if is_content(word) and word not in others]
            for words, others in ((ours, near), (near[: len(ours)], ours))
        )
        if lost and any(word in theirs for word in added):
            return False  # the question is for another of the things that are there
    return True


def _is_unfinished(row: list[str]) -> bool:
    """Whether a text was cut within a formula or behind an article: `5(a +`, `shows a`."""
    return len(row) <= 3 and row[-1] in _UNFINISHED and not numbers(row) and not any(map(is_content, row))


def _is_moved(found: list[Tile], theirs: list[str], inside: list[str]) -> bool:
    """Whether the row has all of the problem, with sentences in another order.

    Numbers, symbols and what bounds them are the same as a whole, and something longer than a number has moved: two
    numbers that have changed places are another problem.
    """
    if Counter(structure(theirs)) != Counter(structure(inside)) or opposed(theirs, inside):
        return False
    moved = [tile for one, tile in pairwise(found) if tile.second < one.second]
    if any(tile.length < _MOVED for tile in moved):
        return False
    longest = max((max(b - a, d - c) for (a, b), (c, d) in replaced(theirs, inside)), default=0)
    return longest >= _MOVED or _is_in_long_runs(found, theirs)


def _is_in_long_runs(found: list[Tile], theirs: list[str]) -> bool:
    """Whether shared runs as long as sentences hold the whole problem, but for words that it has twice."""
    within = [place for tile in found for place in range(tile.first, tile.first + tile.length)]
    covered = {theirs[place] for place in within}
    outside = [theirs[place] for place in sorted(set(range(len(theirs))) - set(within))]
    return (
        all(tile.length >= _SENTENCE for tile in found)
        and len(outside) <= len(found)
        and all(word in covered and not is_number(word) for word in outside)
    )


def _coherent(found: list[Tile], length: int) -> list[Tile]:
    """The tiles around the longest: others, far from it in the row, are phrases that any text has."""
    if not found:
        return []
    middle = max(found, key=lambda tile: tile.length)
    low, high = middle.second - 2 * length, middle.second + middle.length + 2 * length
    return [tile for tile in found if low <= tile.second <= high]


def _same_formulas(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two texts have the same numbers and symbols in the same order, or long formulas that are nearly the same.

    The order counts: in a short story the same numbers in another order are another problem.
    """
    if numbers(first) != numbers(second):
        return False
    for ours, theirs in ((first, second), (_renamed(first), _renamed(second))):
        ours, theirs = structure(ours), structure(theirs)
        long = min(len(ours), len(theirs)) >= 12
        if ours == theirs or long and Indel.normalized_similarity(ours, theirs) >= 0.85:
            return True
    return False


def _other_options(row: tuple[str, ...], ours: tuple[str, ...]) -> bool:
    """Whether a row has other options. It may lack the last ones, or have other text behind the last."""
    pairs = list(zip(row, ours, strict=False))
    return any(one != other for one, other in pairs[:-1]) or any(
        not (one + " ").startswith(other + " ") for one, other in pairs[-1:]
    )


def _refers(words: Sequence[str]) -> bool:
    """Whether a question is not complete without its options."""
    return "following" in words


_CUES = (("written", "as"), ("written", "in"), ("expressed", "as"), ("expressed", "in"), ("form",))
_BEFORE_CUES = frozenset("be can is of in which that it may form".split())


def _core(words: list[str]) -> list[str]:
    """A problem without the request to turn its answer into an integer: "can be written as m/n ... Find m + n"."""
    for place in range(len(words) - 1, 4, -1):
        if words[place] == "find" and len(words) - place <= 16 and "+" in words[place:]:
            for start in range(max(5, place - 60), place):
                if any(tuple(words[start : start + len(cue)]) == cue for cue in _CUES):
                    while start > 5 and words[start - 1] in _BEFORE_CUES:
                        start -= 1
                    return words[:start]
            break
    return words


def _inverted(lists: Iterable[Iterable]) -> dict:
    """Of lists of keys: key -> the numbers of the lists that have it."""
    index = defaultdict(list)
    for number, keys in enumerate(lists):
        for key in keys:
            index[key].append(number)
    return index


def _grams(words: Sequence[str], length: int) -> list[tuple]:
    """Runs of `length` tokens in which all variables are one, so that renaming them changes nothing."""
    masked = ["x" if len(word) == 1 and word.isalpha() else word for word in words]
    return list(zip(*(masked[start:] for start in range(length)), strict=False))


def _variables(words: Sequence[str]) -> list[str]:
    """The variables of a text in the order in which they first come.

    A letter that comes once is none if it may be an article, a number (e, i) or a unit.
    """
    counts = Counter(words)
    return [word for word in counts if len(word) == 1 and word.isalpha() and (counts[word] > 1 or word not in _LETTERS)]


def _renamed(words: Sequence[str]) -> list[str]:
    """The variables by their order, the same for all names."""
    names = {variable: str(number) for number, variable in enumerate(_variables(words))}
    return [names.get(word, word) for word in words]


def _may_be_renamed(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the variables of one text may be those of another under new names.

    A letter that both have must be the same variable: `x = 2y` is not `y = 2x`, as x and y have their axes.
    """
    ours, theirs = _variables(first), _variables(second)
    if ours == theirs or len(ours) != len(theirs):
        return False
    return not any(one != other and (one in theirs or other in ours) for one, other in zip(ours, theirs, strict=True))


def _last_name(words: Sequence[str], names: frozenset[str]) -> str:
    """Whom a problem speaks of last, which is mostly whom it asks about."""
    return next((word for word in reversed(words) if word in names), "")


def _values(words: Iterable[str]) -> tuple[str, ...]:
    """The numbers of a problem in order of size, () if they are too few to identify it."""
    found = tuple(sorted(one for one in numbers(words) if one != "1"))
    return found if len(found) >= 2 and len(set(found)) >= 2 else ()
