"""A running estimate of how often the policy solves each problem, from the rollouts of this run."""

from collections.abc import Mapping

import numpy as np

MAX_CLASSES = 20
# A class's prior, and a class as its problems' prior, weigh as much as so many completions.
CLASS_PRIOR, PROBLEM_PRIOR = 8.0, 8.0
UNKNOWN = 0.5


def classes_of(values: np.ndarray) -> np.ndarray:
    """Problems that are about equally hard, int64 [problems]: equal values, or quantiles where there are many.

    values: float64 [problems], NaN where unknown, which is a class by itself.
    """
    known = values[~np.isnan(values)]
    if len(np.unique(known)) > MAX_CLASSES:
        edges = np.quantile(known, np.linspace(0, 1, MAX_CLASSES + 1)[1:-1])
        values = np.where(np.isnan(values), np.nan, np.searchsorted(edges, values))
    return np.unique(values, return_inverse=True)[1].reshape(-1)


class PassRates:
    """Counts of correct and of all completions by problem, old ones fading, and what they say together.

    With c_i correct of n_i for problem i, C and N the sums over its class and b the mean of the base model's pass rates
    there (1/2 if unknown), the estimate is the class's, drawn to the problem's own:

        m = (C + k b) / (N + k),   p_i = (c_i + k m) / (n_i + k),   k = 8

    Most problems are met once an epoch at the most, so a problem is judged by its like until it has been seen itself.
    Counts fade by half every `half_life` steps: the policy that they are of is no more.
    """

    def __init__(self, base: np.ndarray, difficulty: np.ndarray, half_life: float) -> None:
        """base: pass rates of the base model; difficulty: where those are unknown. Both float64 [problems], NaN."""
        self.classes = classes_of(difficulty if np.isnan(base).all() else base)
        size = np.bincount(self.classes)
        sums = np.bincount(self.classes, np.where(np.isnan(base), UNKNOWN, base))
        self.base = sums / size  # by class
        self.fade = 0.5 ** (1 / half_life)
        self.correct, self.attempts = np.zeros(len(base)), np.zeros(len(base))

    def observe(self, outcomes: Mapping[int, tuple[int, int]]) -> None:
        """A step's outcomes: correct completions and all, by problem."""
        self.correct *= self.fade
        self.attempts *= self.fade
        for problem, (correct, attempts) in sorted(outcomes.items()):
            self.correct[problem] += correct
            self.attempts[problem] += attempts

    def estimate(self) -> np.ndarray:
        """float64 [problems], 0 to 1."""
        correct, attempts = np.bincount(self.classes, self.correct), np.bincount(self.classes, self.attempts)
        of_class = (correct + CLASS_PRIOR * self.base) / (attempts + CLASS_PRIOR)
        return (self.correct + PROBLEM_PRIOR * of_class[self.classes]) / (self.attempts + PROBLEM_PRIOR)
