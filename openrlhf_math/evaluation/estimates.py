"""Estimates over problems and samples. Pure functions of numpy arrays of shape [problems, samples]."""

import numpy as np

RESAMPLES = 10_000


def pass_at_1(correct: np.ndarray) -> float:
    """Mean over problems of the share of correct samples. correct: bool or 0/1, [problems, samples]."""
    return float(correct.mean())


def bootstrap_interval(correct: np.ndarray, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of pass@1, resampling problems with their samples.

    correct: [problems, samples]. The problems are what a benchmark is a draw of; samples of one problem are not
    independent evidence. Efron & Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    scores = correct.mean(axis=1)
    rng = np.random.default_rng(seed)
    # A matrix of multinomial counts instead of one of indices: problems x resamples of small integers.
    counts = rng.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), size=RESAMPLES)
    means = counts @ scores / len(scores)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def tokens_per_correct(tokens: np.ndarray, correct: np.ndarray) -> float | None:
    """Completion tokens spent for one correct answer; None if there is none. Both [problems, samples]."""
    return float(tokens.sum() / correct.sum()) if correct.any() else None
