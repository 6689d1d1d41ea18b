"""Quantities over runs that differ by their seed, and results on held-out problems. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean

import numpy as np

from openrlhf_math.evaluation.compare import Difference, Result, compare
from openrlhf_math.evaluation.estimates import bootstrap_intervals, bootstrap_ratio
from openrlhf_math.report.plots import smoothed
from openrlhf_math.runs.records import number

SMOOTH_OVER = 5  # steps that a point of a curve is the mean of, in every run


@dataclass(frozen=True, slots=True)
class Spread:
    """The mean over seeds, the lowest and the highest: of a few seeds no interval can say more."""

    mean: float
    low: float
    high: float
    values: list[float]


@dataclass(frozen=True, slots=True)
class Run:
    """A GRPO run: a record a step, and its model's results on the held-out problems."""

    rows: list[dict]
    heldout: list[Result]


@dataclass(frozen=True, slots=True)
class EvaluatedRun:
    """A GRPO run: a record a step, and one an evaluation on held-out problems."""

    rows: list[dict]
    evaluations: list[dict]


@dataclass(frozen=True, slots=True)
class Band:
    """A curve: at each step the mean over seeds, the lowest and the highest."""

    steps: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


def spread(values: Sequence[float]) -> Spread:
    return Spread(fmean(values), min(values), max(values), list(values))


def scaled(one: Spread, factor: float) -> Spread:
    return spread([factor * value for value in one.values])


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


def evaluated_pass_at_1(row: dict) -> float:
    """Of a run's record of an evaluation on one set of problems."""
    (value,) = (value for name, value in row.items() if name.endswith("_pass1"))
    return value


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95% interval, bootstrap over the problems of all seeds. A bound that is None is none."""

    value: float
    ci95: tuple[float | None, float | None]


BySeed = Sequence[list[Result]]  # the results of each seed's model on that seed's problems


def pass_at_1(runs: BySeed) -> Estimate:
    return _mean([one.accuracy for one in chain(*runs)])


def completion_tokens(runs: BySeed) -> Estimate:
    return _mean([_tokens(one) for one in chain(*runs)])


def _tokens(one: Result) -> float:
    assert one.tokens is not None  # our own evaluations count them
    return one.tokens


def tokens_per_correct(runs: BySeed) -> Estimate | None:
    """Tokens spent for one correct completion; None if none is correct."""
    tokens, correct = (np.array([getattr(one, name) for one in chain(*runs)]) for name in ("tokens", "accuracy"))
    if not correct.any():
        return None
    return Estimate(float(tokens.sum() / correct.sum()), tuple(bootstrap_ratio(tokens, correct)))


def differences(first: BySeed, second: BySeed) -> dict[str, Difference]:
    """What the second models have more than the first, paired by problem: see `evaluation.compare.compare`."""
    return compare(list(chain(*first)), list(chain(*second)), seed=0)


def _mean(values: list[float]) -> Estimate:
    column = np.array(values)[:, None]
    return Estimate(float(column.mean()), tuple(bootstrap_intervals(column)[0].tolist()))
