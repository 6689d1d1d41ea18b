"""Runs of tokens that two texts share, wherever they are in each: greedy string tiling (Wise 1993)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

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
