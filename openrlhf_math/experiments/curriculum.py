"""What a curriculum saves: the tokens and steps that GRPO takes to an accuracy, against shuffled problems."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from openrlhf_math.experiments import figure, words
from openrlhf_math.experiments.over_seeds import Band, EvaluatedRun, Spread, band, evaluated_pass_at_1, scaled, spread
from openrlhf_math.report.table import Table, percent

TITLE = "GRPO by curriculum"
PLAIN = "uniform"  # that the others are measured against
AT_END = 3  # evaluations that an accuracy is the mean of: one moves by chance
COLOURS = {PLAIN: "#7a7a7a", "window": "#1b6ca8", "staged": "#d98a1f"}


@dataclass(frozen=True, slots=True)
class Curve:
    """Held-out accuracy, each a mean of `AT_END` evaluations, by the training completions' tokens until then."""

    steps: list[float]
    tokens: list[float]
    accuracy: list[float]

    def reached(self, target: float) -> tuple[float, float]:
        """Steps and tokens where the accuracy is first `target`, between evaluations on a straight line."""
        for place, accuracy in enumerate(self.accuracy):
            if accuracy < target:
                continue
            if place == 0:
                return self.steps[0], self.tokens[0]
            share = (target - self.accuracy[place - 1]) / (accuracy - self.accuracy[place - 1])
            step, tokens = (
                series[place - 1] + share * (series[place] - series[place - 1]) for series in (self.steps, self.tokens)
            )
            return step, tokens
        raise ValueError(f"an accuracy of {target} is not reached")


@dataclass(frozen=True, slots=True)
class Order:
    """The runs of all seeds with one curriculum. fewer_tokens: as many times as uniform, seed by seed."""

    name: str
    curves: list[Curve]
    mixed: Band
    at_end: Spread
    steps: Spread
    tokens: Spread
    fewer_tokens: Spread | None


@dataclass(frozen=True, slots=True)
class Findings:
    """targets: of each seed, the accuracy up to which tokens and steps are counted: the lowest final one."""

    seeds: int
    steps: int
    targets: list[float]
    orders: list[Order]


def times_fewer(plain: Sequence[float], others: Sequence[float]) -> Spread | None:
    """How many times fewer tokens than `plain`, seed by seed. None where a target was reached before training."""
    if not all((*plain, *others)):
        return None
    return spread([base / other for base, other in zip(plain, others, strict=True)])


def analyse(runs: Mapping[str, Sequence[EvaluatedRun]]) -> Findings:
    """runs: by order, one a seed; `PLAIN` is among them."""
    curves = {name: [curve(run) for run in same] for name, same in runs.items()}
    targets = [min(curve.accuracy[-1] for curve in same) for same in zip(*curves.values(), strict=True)]
    reached = {
        name: [curve.reached(target) for curve, target in zip(same, targets, strict=True)]
        for name, same in curves.items()
    }
    plain = [tokens for _, tokens in reached[PLAIN]]
    orders = [
        Order(
            name=name,
            curves=curves[name],
            mixed=band([run.rows for run in same], "curriculum/mixed_rate"),
            at_end=spread([curve.accuracy[-1] for curve in curves[name]]),
            steps=spread([steps for steps, _ in reached[name]]),
            tokens=spread([tokens for _, tokens in reached[name]]),
            fewer_tokens=times_fewer(plain, [tokens for _, tokens in reached[name]]),
        )
        for name, same in runs.items()
    ]
    return Findings(len(targets), orders[0].mixed.steps[-1], targets, orders)


def curve(run: EvaluatedRun, window: int = AT_END, start: float | None = None) -> Curve:
    """Of a run's evaluations on held-out problems, each point the mean of `window`.

    start: accuracy before the first step, the curve's first point; None to begin with the evaluations.
    """
    spent = {0: 0.0}
    for row in run.rows:
        tokens = row["completion_length"] * row["rollout/num_samples"]
        spent[row["step"]] = spent[row["step"] - 1] + tokens
    steps = [row["step"] for row in run.evaluations]
    accuracy = [evaluated_pass_at_1(row) for row in run.evaluations]
    if start is not None:
        steps, accuracy = [0, *steps], [start, *accuracy]
    window = min(window, len(steps))

    def means(values: list[float]) -> list[float]:
        return [fmean(values[end - window : end]) for end in range(window, len(values) + 1)]

    return Curve(means(steps), means([spent[step] for step in steps]), means(accuracy))


def _fewer(one: Order) -> str:
    return words.over_seeds(one.fewer_tokens) if one.fewer_tokens and one.name != PLAIN else "-"


def tables(found: Findings) -> list[Table]:
    header = ["order of the problems", *(one.name for one in found.orders)]

    def row(name: str, write: Callable[[Order], str]) -> list[str]:
        return [name, *map(write, found.orders)]

    rows = [
        row("held-out pass@1 at the end", lambda one: words.over_seeds(scaled(one.at_end, 100), 1, "%")),
        row("groups neither all right nor all wrong", lambda one: percent(fmean(one.mixed.mean))),
        row("steps to the target", lambda one: words.over_seeds(one.steps, 1)),
        row("thousand completion tokens to the target", lambda one: words.over_seeds(scaled(one.tokens, 1e-3), 0)),
        row("times fewer tokens", _fewer),
    ]
    targets = ", ".join(percent(one) for one in found.targets)
    note = (
        f"{words.seeds(found.seeds)}, {found.steps} steps each, the same student for all. Accuracy: the mean of "
        f"{AT_END} evaluations on held-out problems. The target of a seed is the lowest accuracy that any order ended "
        f"with: {targets}. In brackets: lowest to highest of the seeds."
    )
    return [Table("Each order of problems", header, rows, note)]


def draw(found: Findings, stem: Path) -> None:
    title = f"{TITLE}: tiny Qwen, {words.seeds(found.seeds)}, {found.steps} steps"
    note = f"A line for each seed, each point the mean of {AT_END} evaluations. Band: lowest to highest of the seeds."
    with figure.figure(stem, title, note, (1, 3)) as (accuracy, mixed, cost):
        for one in found.orders:
            colour = COLOURS.get(one.name)
            for place, curve in enumerate(one.curves):
                tokens = np.array(curve.tokens) / 1000
                accuracy.plot(tokens, curve.accuracy, color=colour, label=None if place else one.name, linewidth=1.2)
            figure.draw_band(mixed, one.mixed, COLOURS[one.name], one.name)
        accuracy.set(
            title="Held-out problems", xlabel="training completions, thousand tokens", ylabel="pass@1, sampled"
        )
        accuracy.legend(loc="lower right")
        figure.in_percent(accuracy)
        mixed.set(title="Groups that teach", ylabel="neither all right nor all wrong", ylim=(0, 1))
        figure.in_percent(mixed)
        figure.integer_steps(mixed)
        names, colours = (
            [one.name for one in found.orders],
            [COLOURS.get(one.name, "black") for one in found.orders],
        )
        figure.draw_bars(cost, names, [scaled(one.tokens, 1e-3) for one in found.orders], colours, number=".0f")
        cost.set(title="Tokens to the same accuracy", ylabel="thousand tokens")
