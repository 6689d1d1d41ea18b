"""What GRPO does to the cost of an answer: accuracy, length, and how fast the same problems are solved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from openrlhf_math.evaluation.compare import Difference, Result
from openrlhf_math.experiments import figure, words
from openrlhf_math.experiments.over_seeds import (
    Band,
    Estimate,
    Spread,
    band,
    completion_tokens,
    differences,
    pass_at_1,
    spread,
    tokens_per_correct,
)
from openrlhf_math.report.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Accuracy and cost through GRPO"
BEFORE, AFTER = "#7a7a7a", "#1b6ca8"


@dataclass(frozen=True, slots=True)
class Model:
    """One model on the held-out problems of its seed. seconds: of each time that all completions were generated."""

    heldout: list[Result]
    seconds: list[float]
    completions: int

    def completions_a_second(self) -> float:
        return self.completions / fmean(self.seconds)

    def correct_a_second(self) -> float:
        return fmean(one.accuracy for one in self.heldout) * self.completions_a_second()


@dataclass(frozen=True, slots=True)
class Run:
    """A GRPO run: a record a step, and the model before and after."""

    rows: list[dict]
    before: Model
    after: Model


@dataclass(frozen=True, slots=True)
class Side:
    """The models of all seeds before GRPO, or after. Speeds are of vLLM alone: no start, no grading."""

    pass_at_1: Estimate
    completion_tokens: Estimate
    tokens_per_correct: Estimate | None
    seconds: Spread
    completions_a_second: Spread
    correct_a_second: Spread


@dataclass(frozen=True, slots=True)
class Findings:
    """accuracy, length: of the training completions by step, on problems that no step before had.

    differences: after less before, paired by problem. faster, more_solved: how many times as many completions, and
    correct ones, a second.
    """

    seeds: int
    steps: int
    completions: int
    accuracy: Band
    length: Band
    before: Side
    after: Side
    differences: dict[str, Difference]
    faster: Spread
    more_solved: Spread


def analyse(runs: Sequence[Run]) -> Findings:
    """runs: one a seed."""
    before, after = [run.before for run in runs], [run.after for run in runs]
    accuracy = band([run.rows for run in runs], "accuracy")
    return Findings(
        seeds=len(runs),
        steps=accuracy.steps[-1],
        completions=before[0].completions,
        accuracy=accuracy,
        length=band([run.rows for run in runs], "completion_length"),
        before=_side(before),
        after=_side(after),
        differences=differences([one.heldout for one in before], [one.heldout for one in after]),
        faster=_times(before, after, Model.completions_a_second),
        more_solved=_times(before, after, Model.correct_a_second),
    )


def _side(models: Sequence[Model]) -> Side:
    heldout = [one.heldout for one in models]
    return Side(
        pass_at_1=pass_at_1(heldout),
        completion_tokens=completion_tokens(heldout),
        tokens_per_correct=tokens_per_correct(heldout),
        seconds=spread([fmean(one.seconds) for one in models]),
        completions_a_second=spread([one.completions_a_second() for one in models]),
        correct_a_second=spread([one.correct_a_second() for one in models]),
    )


def _times(before: Sequence[Model], after: Sequence[Model], speed: Callable[[Model], float]) -> Spread:
    """Speed after by speed before, seed by seed. A seed whose student solves nothing has no such number."""
    pairs = [(speed(one), speed(other)) for one, other in zip(before, after, strict=True)]
    return spread([fast / slow if slow else float("nan") for slow, fast in pairs])


def tables(found: Findings) -> list[Table]:
    before, after = found.before, found.after

    def row(name: str, write: Callable[[Any], str], what: str, change: str) -> list[str]:
        return [name, write(getattr(before, what)), write(getattr(after, what)), change]

    speed = partial(words.over_seeds, digits=1)
    rows = [
        row("held-out pass@1", words.share, "pass_at_1", words.points(found.differences["pass_at_1"])),
        row(
            "tokens a completion",
            words.amount,
            "completion_tokens",
            words.more(found.differences["completion_tokens"]),
        ),
        row("tokens a correct answer", words.amount, "tokens_per_correct", "-"),
        row(f"seconds for {found.completions:,} completions", words.over_seeds, "seconds", "-"),
        row("completions a second", speed, "completions_a_second", f"{words.over_seeds(found.faster)} times"),
        row("correct answers a second", speed, "correct_a_second", f"{words.over_seeds(found.more_solved)} times"),
    ]
    note = (
        f"{words.seeds(found.seeds)}, {found.steps} steps each. Behind accuracy and tokens: 95% intervals, bootstrap "
        "over the problems of all seeds; p of the paired difference. Behind times: lowest to highest of the seeds, "
        "each the mean of its measurements. Times are of vLLM alone, the same problems before and after in turns."
    )
    return [Table("Before and after", ["", "before GRPO", "after GRPO", "change"], rows, note)]


def draw(found: Findings, stem: Path) -> None:
    note = (
        "Bands: lowest to highest of the seeds on training problems not met before. Whiskers: 95%, bootstrap over "
        "held-out problems. Dots: each seed."
    )
    title = f"{TITLE}: tiny Qwen, {words.seeds(found.seeds)}, {found.steps} steps"
    names, colours = ["before GRPO", "after GRPO"], [BEFORE, AFTER]
    sides = [found.before, found.after]
    with figure.figure(stem, title, note, (2, 2)) as (accuracy, length, cost, speed):
        figure.draw_band(accuracy, found.accuracy, AFTER, "training problems, each met once")
        _ends(accuracy, found, "pass_at_1")
        accuracy.set(title="Accuracy", ylabel="correct completions")
        figure.in_percent(accuracy)
        figure.draw_band(length, found.length, AFTER, "training problems, each met once")
        _ends(length, found, "completion_tokens")
        length.set(title="Completion length", ylabel="tokens a completion")
        for axes in (accuracy, length):
            figure.integer_steps(axes)
            axes.legend(loc="best")

        figure.draw_estimates(cost, names, [side.tokens_per_correct for side in sides], colours)
        cost.set(title="Cost of a correct answer", ylabel="tokens a correct answer")
        cost.set_ylim(bottom=0)
        figure.draw_bars(speed, names, [side.correct_a_second for side in sides], colours, number=".1f")
        speed.set(
            title=f"{found.faster.mean:.2f} times the completions, {found.more_solved.mean:.2f} times the answers",
            ylabel="correct answers a second (vLLM)",
        )


def _ends(axes: "Axes", found: Findings, what: str) -> None:
    """The held-out figure before the first step and after the last."""
    for step, side, label in ((0, found.before, "held-out problems"), (found.steps, found.after, None)):
        one: Estimate = getattr(side, what)
        low, high = (one.value if bound is None else bound for bound in one.ci95)
        reach = [[one.value - low], [high - one.value]]
        axes.errorbar(step, one.value, reach, fmt="s", color="black", capsize=4, label=label)
