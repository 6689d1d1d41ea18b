"""Scores that were computed before: what a causal model says at a token depends on the tokens up to it alone."""

import array
import hashlib
from collections import OrderedDict

from openrlhf_math.rerank.encoding import Encoded


class ScoreMemory:
    """The latest scores, by the tokens that lead to them.

    Where the engine has a prefix in its cache it computes nothing there, also no scores. When a search scores a longer
    beginning of the same solution, those of its earlier steps come from here.
    """

    def __init__(self, capacity: int = 1 << 16) -> None:
        self._scores: OrderedDict[bytes, float] = OrderedDict()
        self._capacity = capacity

    def get(self, keys: list[bytes]) -> list[float | None]:
        return [self._scores.get(key) for key in keys]

    def put(self, keys: list[bytes], scores: list[float]) -> None:
        self._scores.update(zip(keys, scores, strict=True))
        while len(self._scores) > self._capacity:
            self._scores.popitem(last=False)

    def clear(self) -> None:
        self._scores.clear()


def keys(encoded: Encoded) -> list[bytes]:
    """For every position that is read, a digest of the tokens up to it."""
    digest, found, begin = hashlib.blake2b(digest_size=16), [], 0
    for position in encoded.read:
        digest.update(array.array("q", encoded.ids[begin : position + 1]).tobytes())
        found.append(digest.digest())
        begin = position + 1
    return found
