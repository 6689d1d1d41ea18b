"""Which problems may be the same but for how they are written.

MinHash over the words proposes pairs (Broder 1997; banding as in Leskovec, Rajaraman and Ullman, Mining of Massive
Datasets, 3.4): two problems meet if one of their bands is equal. The numbers of a problem, in their order, go into
every band, so problems with other numbers never meet. `alike` then judges each pair.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import xxhash

from openrlhf_math.curation.alike import numbers
from openrlhf_math.curation.normalise import is_number

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
