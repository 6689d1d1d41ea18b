"""Estimates over problems and samples. Pure functions of numpy arrays of shape [problems, samples]."""

import math

import numpy as np

RESAMPLES = 10_000


def pass_at_1(correct: np.ndarray) -> float:
    """Mean over problems of the share of correct samples. correct: bool or 0/1, [problems, samples]."""
    return float(correct.mean())


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Probability that of k samples drawn without replacement at least one is correct: 1 - C(n - c, k) / C(n, k).

    samples, correct: n and c of one problem. The unbiased estimator of Chen et al., https://arxiv.org/abs/2107.03374,
    section 2.1. Of a problem with fewer than k samples all are drawn.
    """
    k = min(k, samples)
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def bootstrap_interval(correct: np.ndarray, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of pass@1, resampling problems with their samples.

    correct: [problems, samples]. The problems are what a benchmark is a draw of; samples of one problem are not
    independent evidence. Efron & Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    low, high = bootstrap_intervals(correct.mean(axis=1)[:, None], seed, level)[0]
    return float(low), float(high)


def bootstrap_intervals(scores: np.ndarray, seed: int = 0, level: float = 0.95) -> np.ndarray:
    """As `bootstrap_interval`, of several scores of the same problems: [problems, scores] -> [scores, 2]."""
    problems = len(scores)
    rng = np.random.default_rng(seed)
    # A matrix of multinomial counts instead of one of indices: problems x resamples of small integers.
    counts = rng.multinomial(problems, np.full(problems, 1 / problems), size=RESAMPLES)
    means = counts @ scores / problems
    return np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0).T


def tokens_per_correct(tokens: np.ndarray, correct: np.ndarray) -> float | None:
    """Completion tokens spent for one correct answer; None if there is none. Both [problems, samples]."""
    return float(tokens.sum() / correct.sum()) if correct.any() else None
