"""One quantity in several runs that differ by their seed. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from openrlhf_math.report.plots import smoothed
from openrlhf_math.report.records import number

SMOOTH_OVER = 5  # steps that a point of a curve is the mean of, in every run


@dataclass(frozen=True, slots=True)
class Spread:
    """The mean over seeds, the lowest and the highest: of a few seeds no interval can say more."""

    mean: float
    low: float
    high: float
    values: list[float]


@dataclass(frozen=True, slots=True)
class Band:
    """A curve: at each step the mean over seeds, the lowest and the highest."""

    steps: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


def spread(values: Sequence[float]) -> Spread:
    return Spread(fmean(values), min(values), max(values), list(values))


def band(runs: Sequence[list[dict]], name: str) -> Band:
    """The figure `name` of the records of each run, at the steps where all have it, smoothed within each run."""
    series = [{row["step"]: value for row in rows if (value := number(row, name)) is not None} for rows in runs]
    steps = sorted(set.intersection(*map(set, series)))
    window = min(SMOOTH_OVER, len(steps) - (len(steps) + 1) % 2)  # odd
    curves = np.array([smoothed([one[step] for step in steps], max(window, 1)) for one in series])
    return Band(steps, *(found.tolist() for found in (curves.mean(axis=0), curves.min(axis=0), curves.max(axis=0))))


def values_of(rows: list[dict], name: str) -> list[float]:
    """A figure of all records that have it."""
    return [value for row in rows if (value := number(row, name)) is not None]
