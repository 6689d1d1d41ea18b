"""Sets of real numbers: intervals, their unions and differences, finite sets, and what an inequality solves.

A region is its end points and a rule that says whether a number is in it. Two regions are equal if they agree on every
end point of either and between each two of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import mpmath

from openrlhf_math.rewards.evaluate import MpNumber, same_value

INFINITY = mpmath.inf
# The variable of a region that was said of several.
SEVERAL = "?"


@dataclass(frozen=True, slots=True)
class Region:
    """`variable` is the one it was said of, `x` in `x > 2`, or None."""

    ends: tuple[MpNumber, ...]
    contains: Callable[[MpNumber], bool]
    variable: str | None = None
    finite: bool = False

    def named(self, variable: str | None) -> "Region":
        return Region(self.ends, self.contains, variable, self.finite)


def interval(low: MpNumber, high: MpNumber, closed_low: bool, closed_high: bool) -> Region:
    """The numbers between two, which may be infinite."""

    def contains(number: MpNumber) -> bool:
        if abs(low) != INFINITY and same_value(number, low):
            return closed_low and (low < high or closed_high and same_value(low, high))
        if abs(high) != INFINITY and same_value(number, high):
            return closed_high and low < high
        return low < number < high

    return Region(tuple(end for end in (low, high) if abs(end) != INFINITY), contains)


def points(numbers: Iterable[MpNumber]) -> Region:
    """A finite set."""
    numbers = tuple(numbers)
    return Region(numbers, lambda number: any(same_value(number, one) for one in numbers), finite=True)


EVERYTHING = interval(-INFINITY, INFINITY, False, False)
NOTHING = points(())


def joined(regions: list[Region]) -> Region:
    """The union."""
    return Region(
        _ends(regions), lambda number: any(region.contains(number) for region in regions), _variable(regions),
        all(region.finite for region in regions),
    )  # fmt: skip


def common(regions: list[Region]) -> Region:
    """The intersection."""
    if len(regions) == 1:
        return regions[0]
    return Region(_ends(regions), lambda number: all(region.contains(number) for region in regions), _variable(regions))


def without(one: Region, other: Region) -> Region:
    """The numbers of one region that are not in the other."""
    return Region(_ends([one, other]), lambda number: one.contains(number) and not other.contains(number), one.variable)


def same_region(one: Region, other: Region) -> bool:
    """Whether two regions have the same numbers. A region said of `a` is not one said of `b`."""
    if SEVERAL in (one.variable, other.variable):
        return False
    if one.variable and other.variable and one.variable != other.variable:
        return False
    return all(one.contains(number) == other.contains(number) for number in probes([one, other]))


def probes(regions: list[Region]) -> list[MpNumber]:
    """Every end point, one number between each two, and one beyond them on either side."""
    ends = sorted(_ends(regions))
    if not ends:
        return [mpmath.mpf(0)]
    between = [(low + high) / 2 for low, high in zip(ends, ends[1:], strict=False)]
    return [ends[0] - 1, *ends, *between, ends[-1] + 1]


def _ends(regions: list[Region]) -> tuple[MpNumber, ...]:
    found: list[MpNumber] = []
    for region in regions:
        found += [end for end in region.ends if not any(same_value(end, one) for one in found)]
    return tuple(found)


def _variable(regions: list[Region]) -> str | None:
    names = {region.variable for region in regions if region.variable}
    return SEVERAL if len(names) > 1 else names.pop() if names else None
