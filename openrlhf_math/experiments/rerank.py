"""How choosing among several attempts compares with one attempt, by the number of attempts."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openrlhf_math.evaluation.compare import Difference, difference
from openrlhf_math.evaluation.estimates import bootstrap_intervals
from openrlhf_math.evaluation.recorded import Judged
from openrlhf_math.evaluation.voting import Entry, accuracies, numbers_of_attempts, passes
from openrlhf_math.experiments import figure, words
from openrlhf_math.experiments.over_seeds import Estimate, Spread
from openrlhf_math.report.table import Table
from openrlhf_math.rerank.aggregate import find_aggregation
from openrlhf_math.rerank.choose import find_rule

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Choosing among several attempts"
SUBSETS = 32  # random subsets of k attempts that a rule's accuracy at k is the mean over
AGGREGATION = "last"  # of step scores, each of which is of all steps so far
MAJORITY, ONE, ANY = "maj@k", "pass@1", "pass@k"
RULES = {MAJORITY: "majority", "weighted@k": "weighted", "best-of-k": "best_of_n"}
COLOURS = ("#1b6ca8", "#b5403a", "#3a9d5d")


@dataclass(frozen=True, slots=True)
class Findings:
    """curves: by rule, the accuracy at each of `ks`. against_majority: by rule that reads scores, at the largest k.

    auc: how well each seed's scorer distinguishes right steps from wrong ones; None if unknown.
    """

    seeds: int
    problems: int
    ks: list[int]
    curves: dict[str, list[Estimate]]
    against_majority: dict[str, Difference]
    auc: Spread | None


def analyse(judged: Sequence[list[Judged]], auc: Spread | None) -> Findings:
    """judged: the held-out problems of each seed with their attempts. Intervals are over the problems of all seeds."""
    problems = list(chain(*judged))
    ks = numbers_of_attempts(max(len(one.answer_clusters) for one in problems))
    aggregation = find_aggregation(AGGREGATION)
    entries = [Entry(name, find_rule(rule), None if name == MAJORITY else aggregation) for name, rule in RULES.items()]
    by_rule = dict(zip(RULES, accuracies(problems, entries, ks, SUBSETS, seed=0).transpose(1, 0, 2), strict=True))
    oracle = passes(problems, ks)
    columns = {ONE: oracle[:, :1], **by_rule, ANY: oracle}
    at_all = {name: values[:, -1] for name, values in by_rule.items()}
    against = {name: difference(at_all[MAJORITY], values) for name, values in at_all.items() if name != MAJORITY}
    curves = {name: _estimates(values) for name, values in columns.items()}
    return Findings(len(judged), len(problems), ks, curves, against, auc)


def _estimates(scores: np.ndarray) -> list[Estimate]:
    """scores: [problems, ks]."""
    means, bounds = scores.mean(axis=0).tolist(), bootstrap_intervals(scores).tolist()
    return [Estimate(mean, tuple(ends)) for mean, ends in zip(means, bounds, strict=True)]


def tables(found: Findings) -> list[Table]:
    rows = []
    for name, curve in found.curves.items():
        cells = list(map(words.share, curve))
        against = found.against_majority.get(name)
        rows.append([name, *cells, *["-"] * (len(found.ks) - len(cells)), words.points(against) if against else "-"])
    header = ["", *(f"k = {k}" for k in found.ks), f"from maj@{found.ks[-1]}"]
    note = (
        f"{found.problems:,} held-out problems, {words.seeds(found.seeds)}, each with its models. 95% intervals, "
        f"bootstrap over the problems of all seeds; p of the paired difference. Below the largest k: the mean over "
        f"{SUBSETS} random subsets of the attempts."
    )
    if found.auc:
        note += f" AUC of the scorer on the attempts' steps: {words.over_seeds(found.auc, 3)}."
    return [Table("Accuracy by the number of attempts", header, rows, note)]


def draw(found: Findings, stem: Path) -> None:
    from matplotlib.ticker import NullLocator

    title = f"{TITLE}: tiny Qwen after GRPO, {words.seeds(found.seeds)}, {found.problems:,} problems"
    with figure.figure(stem, title, "Bands: 95%, bootstrap over problems.", (1, 1), (8, 5)) as (axes,):
        _curve(axes, found, ANY, "black", "pass@k: at least one is correct", linestyle="--")
        for name, colour in zip(RULES, COLOURS, strict=True):
            _curve(axes, found, name, colour, name, marker="o", markersize=5)
        (one,) = found.curves[ONE]
        axes.axhline(one.value, color="grey", linestyle=":", label="pass@1: a single attempt")
        axes.set_xscale("log", base=2)
        axes.set_xticks(found.ks, list(map(str, found.ks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel="attempts that take part, k", ylabel="problems solved")
        figure.in_percent(axes)
        axes.legend(loc="upper left")


def _curve(axes: "Axes", found: Findings, name: str, colour: str, label: str, **style: Any) -> None:
    curve = found.curves[name]
    axes.plot(found.ks, [one.value for one in curve], color=colour, label=label, **style)
    low, high = zip(*(one.ci95 for one in curve), strict=True)
    axes.fill_between(found.ks, low, high, color=colour, alpha=0.1, linewidth=0)
