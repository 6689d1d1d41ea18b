"""What the KL coefficient does: how well GRPO learns, what memory it takes and how long a step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from openrlhf_math.evaluation.compare import Difference
from openrlhf_math.experiments import figure, words
from openrlhf_math.experiments.over_seeds import (
    Band,
    BySeed,
    Estimate,
    Run,
    Spread,
    band,
    differences,
    pass_at_1,
    spread,
    values_of,
)
from openrlhf_math.report.table import Table

TITLE = "GRPO by KL coefficient"
END = 0.1  # share of the steps that are a run's end
COLOURS = ("#1b6ca8", "#3a9d5d", "#d98a1f", "#b5403a", "#7a5195", "#555555")


@dataclass(frozen=True, slots=True)
class Coefficient:
    """The runs of all seeds with one coefficient.

    reward: of the training completions by step; at_end: the mean of the last steps. against_zero: of pass@1, from the
    same seeds' runs with KL 0; None if there are none, or it is itself. kl_to_start: nats a token, at the end; None
    without a reference model. peak_gib: the largest of a run's steps, all its processes. step_seconds: the median of a
    run's steps but the first.
    """

    kl: float
    reward: Band
    at_end: Spread
    heldout: Estimate
    against_zero: Difference | None
    kl_to_start: Spread | None
    peak_gib: Spread
    step_seconds: Spread


@dataclass(frozen=True, slots=True)
class Findings:
    """student: pass@1 of the students that all runs began from."""

    seeds: int
    steps: int
    student: Estimate
    coefficients: list[Coefficient]


def analyse(students: BySeed, runs: Mapping[float, Sequence[Run]]) -> Findings:
    """runs: by coefficient, one a seed, in the order of the students."""
    zero = [run.heldout for run in runs.get(0.0, ())]
    found = [_coefficient(kl, same, zero) for kl, same in sorted(runs.items())]
    return Findings(len(students), max(one.reward.steps[-1] for one in found), pass_at_1(students), found)


def _coefficient(kl: float, runs: Sequence[Run], zero: BySeed) -> Coefficient:
    heldout = [run.heldout for run in runs]
    return Coefficient(
        kl=kl,
        reward=band([run.rows for run in runs], "reward"),
        at_end=spread([_end(run.rows, "reward") for run in runs]),
        heldout=pass_at_1(heldout),
        against_zero=differences(zero, heldout)["pass_at_1"] if kl and zero else None,
        kl_to_start=spread([_end(run.rows, "kl") for run in runs]) if kl else None,
        peak_gib=spread([max(values_of(run.rows, "memory/peak_gib")) for run in runs]),
        step_seconds=spread([median(values_of(run.rows[1:] or run.rows, "timing/step_total")) for run in runs]),
    )


def _end(rows: list[dict], name: str) -> float:
    """The mean of a figure over a run's last steps."""
    values = values_of(rows, name)
    return fmean(values[-max(1, round(END * len(values))) :])


def tables(results: Findings) -> list[Table]:
    header = ["KL coefficient", *(f"{one.kl:g}" for one in results.coefficients)]

    def row(name: str, write: Callable[[Coefficient], str]) -> list[str]:
        return [name, *map(write, results.coefficients)]

    rows = [
        row("reference model", lambda one: "yes" if one.kl else "none"),
        row("training reward at the end", lambda one: words.over_seeds(one.at_end, 3)),
        row("held-out pass@1", lambda one: words.share(one.heldout)),
        row("from KL 0", lambda one: "-" if one.against_zero is None else words.points(one.against_zero)),
        row(
            "KL to the start, nats a token",
            lambda one: "-" if one.kl_to_start is None else words.over_seeds(one.kl_to_start, 4),
        ),
        row("peak memory, GiB", lambda one: words.over_seeds(one.peak_gib)),
        row("seconds a step", lambda one: words.over_seeds(one.step_seconds)),
    ]
    note = (
        f"{words.seeds(results.seeds)}, {results.steps} steps each, from students with a held-out pass@1 of "
        f"{words.share(results.student)}. Behind held-out figures: 95% intervals, bootstrap over the problems of all "
        "seeds; p of the paired difference. Behind the others: lowest to highest of the seeds."
    )
    return [Table("Each coefficient", header, rows, note)]


def draw(results: Findings, stem: Path) -> None:
    names = [f"{one.kl:g}" for one in results.coefficients]
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(names))]
    note = (
        "Grey: the means of all coefficients. Band: lowest to highest of the seeds, dots: each seed. "
        "Whiskers: 95%, bootstrap over problems."
    )
    title = f"{TITLE}: tiny Qwen, {words.seeds(results.seeds)}, {results.steps} steps"
    columns = max(3, len(names))
    with figure.figure(stem, title, note, (2, columns), size=(3.7, 3.4)) as panels:
        rewards, (heldout, memory, seconds) = panels[: len(names)], panels[columns : columns + 3]
        for unused in (*panels[len(names) : columns], *panels[columns + 3 :]):
            unused.axis("off")
        figure.draw_separate_bands(rewards, [one.reward for one in results.coefficients], colours)
        for one, name, panel in zip(results.coefficients, names, rewards, strict=True):
            panel.set(title=f"Reward, KL {name}" + ("" if one.kl else ": no reference model"))
        rewards[0].set(ylabel="mean reward of a step's completions")

        heldout.axhspan(*results.student.ci95, color="grey", alpha=0.15, linewidth=0)
        heldout.axhline(results.student.value, color="grey", linestyle="--", label="before GRPO")
        figure.draw_estimates(heldout, names, [one.heldout for one in results.coefficients], colours)
        heldout.set(title="Held-out problems after", xlabel="KL coefficient", ylabel="pass@1")
        heldout.legend(loc="best")
        figure.in_percent(heldout)

        figure.draw_bars(memory, names, [one.peak_gib for one in results.coefficients], colours)
        memory.set(title="Peak memory of all processes", xlabel="KL coefficient", ylabel="GiB")
        figure.draw_bars(seconds, names, [one.step_seconds for one in results.coefficients], colours)
        seconds.set(title="Time of a step", xlabel="KL coefficient", ylabel="seconds, median of steps")
