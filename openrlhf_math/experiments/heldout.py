"""What models reach on held-out problems, those of all seeds together. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from openrlhf_math.evaluation.compare import Difference, Result, compare
from openrlhf_math.evaluation.estimates import bootstrap_intervals, bootstrap_ratio


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
