"""Whether two problems are one, by their forms.

    >>> from openrlhf_math.curation.normalise import form
    >>> compare(form("Find the domain of $f$."), form("Find the range of $f$.")).verdict
    'other'

MinHash over the words proposes pairs (Broder 1997; banding as in Leskovec, Rajaraman and Ullman, Mining of Massive
Datasets, 3.4): two problems meet if one of their bands is equal. The numbers of a problem, in their order, go into
every band, so problems with other numbers never meet.

`compare` judges a pair. Two problems are different if their numbers, symbols or brackets differ or come in another
order, if a word is in place of its opposite, if a bound or a negation is added, or if words have changed places. What
is left are words for other words. They are explained if they are spelling, grammar, synonyms of a list, or names; how
many are not is counted.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import xxhash
from rapidfuzz.distance import OSA, Indel, Levenshtein

from openrlhf_math.curation.normalise import Form, is_number, is_symbol
from openrlhf_math.curation.vocabulary import (
    BOUNDS,
    ENDINGS,
    GRAMMAR,
    NEGATIONS,
    OPPOSED,
    PREFIXES,
    SYNONYMS,
    TURNING,
    UNITS,
)

# Two texts of which a smaller share of the tokens agrees, in order, are never called the same.
LEAST_ALIKE = 0.7

_MOST_WORDS = 40  # of two texts that are looked at for slips; with more they are not alike


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two problems compare.

    verdict: "exact", "same" (all differences are explained), "near" (some words are not), "other" (two problems).
    likeness: 2 LCS / (n + m) of the tokens, 0 to 1. unexplained: words in place of others, or added.
    """

    verdict: str
    likeness: float = 0.0
    unexplained: int = 0


OTHER = Comparison("other")


def compare(first: Form, second: Form) -> Comparison:
    """Compare two whole problems. Options and drawings, where both have them, must be the same."""
    if first.options and second.options and first.options != second.options:
        return OTHER
    if first.drawing and second.drawing and first.drawing != second.drawing:
        return OTHER
    return compare_tokens(first.tokens, second.tokens, first.names, second.names)


def compare_tokens(
    first: Sequence[str],
    second: Sequence[str],
    first_names: frozenset[str] = frozenset(),
    second_names: frozenset[str] = frozenset(),
) -> Comparison:
    """As `compare`, of the tokens alone. Texts without any token are two problems."""
    if first == second:
        return Comparison("exact", 1.0) if first else OTHER
    if structure(first) != structure(second):
        return OTHER
    likeness = Indel.normalized_similarity(first, second)
    if likeness < LEAST_ALIKE:
        return OTHER
    unexplained = count_unexplained(first, second, first_names, second_names)
    if unexplained is None:
        return OTHER
    return Comparison("near" if unexplained else "same", likeness, unexplained)


def count_unexplained(
    first: Sequence[str],
    second: Sequence[str],
    first_names: frozenset[str] = frozenset(),
    second_names: frozenset[str] = frozenset(),
) -> int | None:
    """How many words in place of others, or added, are not explained; None if the words are those of two problems."""
    if opposed(first, second):
        return None
    if changed_places(first, second):
        return None
    unexplained = 0
    for (start, stop), (other_start, other_stop) in replaced(first, second):
        ours, theirs = first[start:stop], second[other_start:other_stop]
        left, added = _unexplained(ours, theirs, first_names, second_names, first, second)
        if any(word in second for word in left) and any(word in first for word in added):
            return None  # words have changed places
        if len(left) == len(added) == 1:
            if left[0] in second or added[0] in first:
                return None  # the question is for another of the things that are there
            before = slice(max(start - 1, 0), start), slice(max(other_start - 1, 0), other_start)
            if other_unit([*first[before[0]], *ours], [*second[before[1]], *theirs], first, second):
                return None  # it is for the same thing in another unit
        unexplained += max(len(left), len(added))
    return unexplained


def other_unit(ours: Sequence[str], theirs: Sequence[str], first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether a unit is in place of one that is asked for, or of one that the text has elsewhere, too.

    ours and theirs: parts of the first and second. A copy that has another currency or measure has it everywhere.
    """
    lost, added = set(ours) & UNITS - set(theirs), set(theirs) & UNITS - set(ours)
    if not lost or not added:
        return False
    asked = lost & _without_number(ours) and added & _without_number(theirs)
    return bool(asked) or not lost.isdisjoint(second) or not added.isdisjoint(first)


def _without_number(tokens: Sequence[str]) -> set[str]:
    return {word for place, word in enumerate(tokens) if not (place and is_number(tokens[place - 1]))}


def changed_places(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether what is done with two numbers, or what they count, has changed places.

    As in "finds 1, sells 3" and "sells 1, finds 3", or "3 pens and a book" and "a pen and 3 books".
    """
    ours, theirs = _done(first), _done(second)
    if len(ours) != len(theirs):
        return False
    done = ((Counter(one), Counter(other)) for one, other in zip(ours, theirs, strict=True))
    if any(words_opposed(one - other, other - one) for one, other in done):
        return True
    pairs = zip(_counted(first), _counted(second), strict=True)
    changed = [(one, other) for one, other in pairs if one and other and not _alike(one, other)]
    return any(
        any(_alike(one, word) for word in second) and any(_alike(other, word) for word in first)
        for one, other in changed
    )


def _done(tokens: Sequence[str]) -> list[Sequence[str]]:
    """The two words before each number."""
    return [tokens[max(place - 2, 0) : place] for place, one in enumerate(tokens) if is_number(one)]


def _counted(tokens: Sequence[str]) -> list[str]:
    """The word right behind each number, "" if it is not a content word."""
    after = (tokens[place + 1] if place + 1 < len(tokens) else "" for place, one in enumerate(tokens) if is_number(one))
    return [word if word and is_content(word) else "" for word in after]


def numbers(tokens: Iterable[str]) -> tuple[str, ...]:
    """The numbers of a problem in their order."""
    return tuple(token for token in tokens if is_number(token))


def structure(tokens: Iterable[str]) -> tuple[str, ...]:
    """Numbers, symbols and brackets in their order."""
    return tuple(token for token in tokens if is_number(token) or is_symbol(token))


def replaced(first: Sequence[str], second: Sequence[str]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The runs of tokens in which two lists differ: (start and stop in the first, start and stop in the second)."""
    found: list[tuple[int, int, int, int]] = []
    opcodes = cast(Iterable[tuple[str, int, int, int, int]], Levenshtein.opcodes(first, second))
    for tag, start, stop, other_start, other_stop in opcodes:
        if tag == "equal":
            continue
        if found and found[-1][1] == start and found[-1][3] == other_start:
            found[-1] = (found[-1][0], stop, found[-1][2], other_stop)
        else:
            found.append((start, stop, other_start, other_stop))
    return [((start, stop), (other, end)) for start, stop, other, end in found]


def opposed(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether a word is in place of its opposite, or a negation or a bound is in one of the two alone."""
    ours, theirs = Counter(first), Counter(second)
    ours, theirs = ours - theirs, theirs - ours
    for word in list(ours) if len(ours) <= _MOST_WORDS and len(theirs) <= _MOST_WORDS else ():
        other = next((other for other in theirs if is_content(word) and _alike(word, other)), None)
        if other is not None:
            shared = min(ours[word], theirs[other])
            ours -= Counter({word: shared})
            theirs -= Counter({other: shared})
    if any(word in BOUNDS for word in (*ours, *theirs)):
        return True
    if sum(ours[word] for word in NEGATIONS) != sum(theirs[word] for word in NEGATIONS):
        return True
    return words_opposed(ours, theirs)


def words_opposed(ours: Counter[str], theirs: Counter[str]) -> bool:
    """Whether a word of the one is the opposite of a word of the other."""
    if not ours or not theirs:
        return False
    if any(not theirs.keys().isdisjoint(OPPOSED.get(word, ())) for word in ours):
        return True
    return any(_turned(one, other) for one in ours for other in theirs if len(one) > 4 and len(other) > 4)


def _turned(one: str, other: str) -> bool:
    """`shaded` and `unshaded`, `inscribed` and `circumscribed`."""
    if one[-3:] != other[-3:]:
        return False
    for prefix in TURNING:
        if one == prefix + other or other == prefix + one:
            return True
    for prefix in PREFIXES:
        if one.startswith(prefix) and len(rest := one[len(prefix) :]) >= 3:
            for another in PREFIXES:
                if prefix != another and other == another + rest:
                    return True
    return False


def is_content(token: str) -> bool:
    """Whether a token is a word that says what a problem is about."""
    return not (is_number(token) or is_symbol(token) or token in GRAMMAR or not token[0].isalnum())


def is_negation(token: str) -> bool:
    """Whether a word turns a sentence around."""
    return token in NEGATIONS


def stem(word: str) -> str:
    """A word without its ending, synonyms as one."""
    word = SYNONYMS.get(word, word)
    for ending in ("ing", "ies", "ied", "es", "ed", "ly", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _unexplained(
    ours: Sequence[str],
    theirs: Sequence[str],
    our_names: frozenset[str],
    their_names: frozenset[str],
    first: Sequence[str],
    second: Sequence[str],
) -> tuple[list[str], list[str]]:
    """Of words in place of others: those that are not synonyms, grammar, endings or names."""
    left, added = [word for word in ours if is_content(word)], [word for word in theirs if is_content(word)]
    for word in list(left):
        match = next((other for other in added if _alike(word, other)), None)
        if match is not None:
            left.remove(word)
            added.remove(match)
    left = [word for word in left if not any(_slipped(word, other) for other in theirs if other in GRAMMAR)]
    added = [word for word in added if not any(_slipped(word, other) for other in ours if other in GRAMMAR)]
    renamed = [word for word in left if word in our_names and word not in second]
    names = [word for word in added if word in their_names and word not in first]
    if renamed and names:
        left = [word for word in left if word not in renamed]
        added = [word for word in added if word not in names]
    return left, added


def _alike(word: str, other: str) -> bool:
    """One word in two forms, with a slip of one letter, or two synonyms."""
    if word == other or SYNONYMS.get(word, word) == SYNONYMS.get(other, other):
        return True
    short, long = sorted((word, other), key=len)
    if (
        len(short) >= 3
        and long.startswith(short[:-1] if short[-1] in "ey" else short)
        and (long[len(short) :] in ENDINGS or long[len(short) - 1 :] in ("ing", "ies", "ied", "ed"))
    ):
        return True
    return _slipped(word, other)


def _slipped(word: str, other: str) -> bool:
    """Whether two words differ in one slip of a typist: letters in each other's place, or one letter of a long word."""
    if min(len(word), len(other)) < 4 or word[0] != other[0]:
        return False
    slips = OSA.distance(word, other, score_cutoff=2)
    return slips == 1 and (min(len(word), len(other)) >= 7 and word[-1] == other[-1] or sorted(word) == sorted(other))


BANDS = 20
ROWS_A_BAND = 2
SEED = 1


def band_keys(token_lists: Iterable[Sequence[str]]) -> np.ndarray:
    """The keys under which problems meet: uint64[problems, BANDS + 1].

    The last key is that of the whole text, so that equal texts meet whatever their words.
    """
    from rensa import RMinHash

    token_lists = list(token_lists)
    if not token_lists:
        return np.empty((0, BANDS + 1), np.uint64)
    words = [sorted({token for token in tokens if not is_number(token)}) or [""] for tokens in token_lists]
    matrix = RMinHash.digest_matrix_from_token_sets(words, BANDS * ROWS_A_BAND, SEED)
    digests = np.array(matrix.to_rows(), np.uint64).reshape(len(words), BANDS, ROWS_A_BAND)
    numbered = np.array([_hash(numbers(tokens)) for tokens in token_lists], np.uint64)
    keys = np.empty((len(words), BANDS + 1), np.uint64)
    keys[:, :BANDS] = _mixed(digests[:, :, 0] << np.uint64(32) | digests[:, :, 1], numbered[:, None])
    keys[:, BANDS] = [_hash(tokens) for tokens in token_lists]
    keys[:, :BANDS] ^= np.arange(BANDS, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return keys


def candidates(keys: np.ndarray, rows: np.ndarray, window: int = 16) -> np.ndarray:
    """Pairs of rows that share a key, the later row first: uint64[pairs, 2], sorted, each pair once.

    Of a key with many rows, each meets the first one and the `window` before it: a chain of copies is followed, and the
    pairs stay in proportion to the rows.
    """
    if not len(keys):
        return np.empty((0, 2), np.uint64)
    order = np.lexsort((rows, keys))
    keys, rows = keys[order], rows[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    first = np.repeat(rows[starts], np.diff(np.r_[starts, len(keys)]))
    found = [np.stack([rows, first], axis=1)[rows != first]]
    for distance in range(1, window + 1):
        same = np.flatnonzero(keys[distance:] == keys[:-distance])
        if not len(same):
            break
        found.append(np.stack([rows[same + distance], rows[same]], axis=1))
    return sorted_pairs(np.concatenate(found))


def sorted_pairs(pairs: np.ndarray) -> np.ndarray:
    """Pairs in order, each once, none of a row with itself: uint64[pairs, 2]."""
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return pairs[np.r_[True, (pairs[1:] != pairs[:-1]).any(axis=1)]] if len(pairs) else pairs


def _hash(tokens: Sequence[str]) -> int:
    return xxhash.xxh3_64_intdigest(" ".join(tokens).encode())


def _mixed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two uint64 in one, every bit of either in every bit of the result (the finaliser of splitmix64)."""
    value = first ^ (second * np.uint64(0xD6E8FEB86659FD93))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
    return value ^ (value >> np.uint64(31))
