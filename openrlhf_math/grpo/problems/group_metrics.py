"""Metrics of a step's groups: accuracy by source and difficulty, pass@k, and lengths of right and wrong completions."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

Outcomes = Mapping[int, tuple[int, int]]  # problem -> correct completions, all completions

MOST_SOURCES = 12  # with their own metrics; those with the fewest problems are "other"
MOST_LEVELS = 8  # of difficulty; more values than these become ranges with equally many problems each
PERCENTILES = (50, 90)


class Strata:
    """The problems of a run by source and by difficulty, both fixed at the start, so that steps can be compared."""

    def __init__(self, sources: Sequence[str], difficulty: np.ndarray) -> None:
        """sources, difficulty (float64, NaN where unknown): of every problem."""
        kept = {name for name, _ in Counter(sources).most_common(MOST_SOURCES)}
        self._sources = [name if name in kept else "other" for name in sources]
        known = np.unique(difficulty[~np.isnan(difficulty)])
        if len(known) > MOST_LEVELS:
            edges = np.unique(np.nanquantile(difficulty, np.linspace(0, 1, MOST_LEVELS + 1)))
            self._lower = edges[:-1]
            names = [f"{low:g} to {high:g}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
        else:
            self._lower, names = known, [f"{value:g}" for value in known]
        self._levels = [None if math.isnan(value) else names[self._level(value)] for value in difficulty]

    def _level(self, value: float) -> int:
        return int(np.searchsorted(self._lower, value, side="right")) - 1

    def accuracies(self, outcomes: Outcomes) -> dict[str, float]:
        """Share of correct completions by source, if there are several, and by difficulty, if it is known."""
        found: dict[str, list[int]] = {}
        several = len(set(self._sources)) > 1
        for problem, counts in outcomes.items():
            names = [f"accuracy/source/{self._sources[problem]}"] if several else []
            if (level := self._levels[problem]) is not None:
                names.append(f"accuracy/difficulty/{level}")
            for name in names:
                totals = found.setdefault(name, [0, 0])
                totals[0] += counts[0]
                totals[1] += counts[1]
        return {name: correct / attempts for name, (correct, attempts) in sorted(found.items())}


def group_metrics(outcomes: Outcomes) -> dict[str, float]:
    """Shares of groups in which none, some and all completions are correct, and pass@k for k = 2, 4, 8, ... .

    pass@k is the mean of 1 - C(n - c, k) / C(n, k) over groups of n completions with c correct, unbiased
    (https://arxiv.org/abs/2107.03374, equation 1); k is at most the smallest group.
    """
    if not outcomes:
        return {}
    groups = list(outcomes.values())
    metrics = {
        "groups/solved_none": np.mean([correct == 0 for correct, _ in groups]),
        "groups/solved_some": np.mean([0 < correct < size for correct, size in groups]),
        "groups/solved_all": np.mean([correct == size for correct, size in groups]),
    }
    k, smallest = 2, min(size for _, size in groups)
    while k <= smallest:
        metrics[f"groups/pass_at_{k}"] = np.mean([
            1 - math.comb(size - correct, k) / math.comb(size, k) for correct, size in groups
        ])  # fmt: skip
        k *= 2
    return {name: float(value) for name, value in metrics.items()}


def length_metrics(lengths: Sequence[float], correct: Sequence[bool]) -> dict[str, float]:
    """Mean and percentiles of the tokens of correct and of wrong completions; none of a kind that does not occur."""
    tokens, right = np.asarray(lengths, dtype=np.float64), np.asarray(correct, dtype=bool)
    metrics = {}
    for name, chosen in (("correct", tokens[right]), ("wrong", tokens[~right])):
        if len(chosen):
            metrics[f"length/{name}_mean"] = chosen.mean()
            metrics |= {f"length/{name}_p{percent}": np.percentile(chosen, percent) for percent in PERCENTILES}
    return {name: float(value) for name, value in metrics.items()}
