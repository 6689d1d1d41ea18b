"""How the numbers of an experiment are written in its tables."""

from openrlhf_math.evaluation.compare import Difference
from openrlhf_math.experiments.over_seeds import Estimate, Spread
from openrlhf_math.report.table import percent


def share(one: Estimate) -> str:
    return f"{percent(one.value)} ({percent(one.ci95[0])} to {percent(one.ci95[1])})"


def amount(one: Estimate | None) -> str:
    if one is None:
        return "-"
    ends = ["no bound" if bound is None else f"{bound:.1f}" for bound in one.ci95]
    return f"{one.value:.1f} ({ends[0]} to {ends[1]})"


def points(one: Difference) -> str:
    """A difference of shares."""
    low, high = one.interval
    return f"{100 * one.difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), p {one.p_value:.4f}"


def more(one: Difference) -> str:
    low, high = one.interval
    return f"{one.difference:+.1f} ({low:+.1f} to {high:+.1f}), p {one.p_value:.4f}"


def over_seeds(one: Spread, digits: int = 2, unit: str = "") -> str:
    text = f"{one.mean:.{digits}f}{unit}"
    return text if len(one.values) == 1 else f"{text} ({one.low:.{digits}f} to {one.high:.{digits}f})"


def seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"
