"""How well probabilities that steps are right agree with labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64


@dataclass(frozen=True, slots=True)
class StepMeasures:
    """Of probabilities that steps are right, against their labels. A step counts as right where its label is over 0.5.

    loss      cross entropy, nats a step
    accuracy  share of steps that a threshold of 0.5 classifies correctly
    auc       probability that a right step has more than a wrong one; NaN unless there are both
    right     share of steps that are right: the accuracy of always saying so
    """

    steps: int
    loss: float
    accuracy: float
    auc: float
    right: float


def step_measures(probabilities: Sequence[float], labels: Sequence[float]) -> StepMeasures:
    """probabilities, labels: of steps, 0 to 1, at least one."""
    p, y = np.asarray(probabilities, dtype=float), np.asarray(labels, dtype=float)
    sure = np.clip(p, 1e-12, 1 - 1e-12)
    right = y > 0.5
    return StepMeasures(
        steps=len(y),
        loss=float(-(y * np.log(sure) + (1 - y) * np.log1p(-sure)).mean()),
        accuracy=float(((p > 0.5) == right).mean()),
        auc=auc(p, right),
        right=float(right.mean()),
    )


def auc(scores: Float64[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Area under the ROC curve: the Mann-Whitney statistic over its greatest value, ties counting half.

    NaN unless there are both kinds.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[inverse]  # from 1, equal scores share the mean of theirs
    n, m = int(np.sum(positive)), int(len(positive) - np.sum(positive))
    if not n or not m:
        return float("nan")
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))
