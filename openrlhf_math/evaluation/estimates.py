"""Estimates over problems and samples. Pure functions of numpy arrays of shape [problems, samples]."""

import math
from collections.abc import Iterator

import numpy as np

RESAMPLES = 10_000
# Resamples made at a time: the counts of so many are in memory, 8 bytes a problem each.
AT_ONCE = 1000
LEVEL = 0.95
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


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


def spread_over_samples(correct: np.ndarray) -> tuple[float, float]:
    """Standard deviation of the accuracies that single samples give, and the standard error of their mean.

    correct: [problems, samples], at least two samples. Sample i of all problems is one run; with n runs the error is
    sd / sqrt(n), sd with n - 1 degrees of freedom. It is the chance of sampling for these problems alone; the chance
    of which problems a benchmark has is in `bootstrap_intervals`.
    """
    runs = correct.mean(axis=0)
    deviation = float(runs.std(ddof=1))
    return deviation, deviation / math.sqrt(len(runs))


def bootstrap_intervals(scores: np.ndarray, seed: int = 0) -> np.ndarray:
    """95% percentile bootstrap intervals of means over problems: [problems, scores] -> [scores, 2].

    Problems are resampled, as they are what a benchmark is a draw of. A score of several samples is their mean: samples
    of one problem are not independent evidence. Efron & Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    return np.quantile(_resampled_means(scores, seed), TAILS, axis=0).T


def bootstrap_ratio(numerator: np.ndarray, denominator: np.ndarray, seed: int = 0) -> list:
    """As `bootstrap_intervals`, of sum(numerator) / sum(denominator), such as tokens and correct answers, [problems].

    A bound is None where so many resamples have a denominator of 0 that it is infinite. Resamples in which both are 0,
    of problems without completions alone, are left out.
    """
    means = _resampled_means(np.stack([numerator, denominator], axis=1).astype(float), seed)
    means = means[means.any(axis=1)]
    if not len(means):
        return [None, None]
    with np.errstate(divide="ignore"):
        ratios = means[:, 0] / means[:, 1]
    # No interpolation: between a number and infinity there is nothing.
    bounds = np.quantile(ratios, TAILS, method="closest_observation")
    return [float(bound) if math.isfinite(bound) else None for bound in bounds]


def tokens_per_correct(tokens: np.ndarray, correct: np.ndarray) -> float | None:
    """Completion tokens spent for one correct answer; None if there is none. Both [problems, samples]."""
    return float(tokens.sum() / correct.sum()) if correct.any() else None


def sign_flip_p_value(differences: np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value of a mean paired difference under the hypothesis that either run could have had either value.

    differences: [problems]. A permutation test (Fisher; Good, Permutation Tests, section 3.2): where the runs do not
    differ, the sign of each difference is a coin. All 2^n signs if there are at most RESAMPLES, else as many random
    ones, of which the observed one counts as another: p = (1 + #{|mean| >= observed}) / (1 + RESAMPLES).
    """
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    # Sums of the same numbers in another order differ in the last digits.
    observed = abs(moved.sum()) - 1e-9 * np.abs(moved).sum()
    if 2 ** len(moved) <= RESAMPLES:
        flips = 1 - 2 * (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1)
        return float((np.abs(flips @ moved) >= observed).mean())
    rng = np.random.default_rng(seed)
    extreme = sum(
        int((np.abs((1 - 2 * rng.integers(0, 2, (size, len(moved)), dtype=np.int8)) @ moved) >= observed).sum())
        for size in _sizes()
    )
    return (1 + extreme) / (1 + RESAMPLES)


def _resampled_means(scores: np.ndarray, seed: int) -> np.ndarray:
    """Means of resampled problems: [problems, scores] -> [RESAMPLES, scores]."""
    problems = len(scores)
    rng = np.random.default_rng(seed)
    # A matrix of multinomial counts instead of one of indices: problems x resamples of small integers.
    share = np.full(problems, 1 / problems)
    return np.concatenate([rng.multinomial(problems, share, size=size) @ scores / problems for size in _sizes()])


def _sizes() -> Iterator[int]:
    return (min(AT_ONCE, RESAMPLES - begun) for begun in range(0, RESAMPLES, AT_ONCE))
