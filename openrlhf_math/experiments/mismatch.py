"""The gain from correcting rollouts: GRPO whose engine deliberately has inexact weights, with and without it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

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

TITLE = "GRPO with a perturbed engine, by correction"
EXACT = "exact engine"  # that the others are measured against
LABELS = {EXACT: "exact", "off": "uncorrected"}  # in figures
COLOURS = {EXACT: "#7a7a7a", "off": "#b5403a", "tis": "#1b6ca8", "mis": "#3a9d5d", "seq": "#d98a1f", "auto": "#7a5195"}


@dataclass(frozen=True, slots=True)
class Way:
    """The runs of all seeds with one engine and correction.

    accuracy: of the training completions by step, which the engine makes. gap: mean |log w|, nats a token; ess:
    effective sample size; corrected: share of the tokens; each the mean of a run's steps. against: of pass@1, from the
    exact engine; None for that itself.
    """

    name: str
    accuracy: Band
    gap: Spread
    ess: Spread
    corrected: Spread
    heldout: Estimate
    by_seed: list[float]
    against: Difference | None


@dataclass(frozen=True, slots=True)
class Findings:
    """student: pass@1 of the students that all runs began from. noise: of the engine's weights."""

    seeds: int
    steps: int
    noise: float
    student: Estimate
    ways: list[Way]


def analyse(students: BySeed, runs: Mapping[str, Sequence[Run]], noise: float) -> Findings:
    """runs: by way, one a seed, in the order of the students; `EXACT` is among them."""
    exact = [run.heldout for run in runs[EXACT]]
    ways = [_way(name, same, exact) for name, same in runs.items()]
    return Findings(len(students), max(one.accuracy.steps[-1] for one in ways), noise, pass_at_1(students), ways)


def _way(name: str, runs: Sequence[Run], exact: BySeed) -> Way:
    def mean(figure_name: str) -> Spread:
        return spread([fmean(values_of(run.rows, figure_name)) for run in runs])

    heldout = [run.heldout for run in runs]
    return Way(
        name=name,
        accuracy=band([run.rows for run in runs], "accuracy"),
        gap=mean("logprob_gap"),
        ess=mean("rollout_corr/ess"),
        corrected=mean("rollout_corr/corrected_rate"),
        heldout=pass_at_1(heldout),
        by_seed=[pass_at_1([one]).value for one in heldout],
        against=None if name == EXACT else differences(exact, heldout)["pass_at_1"],
    )


def tables(found: Findings) -> list[Table]:
    header = [
        "engine and correction", "gap, nats a token", "effective sample size", "tokens corrected", "held-out pass@1",
        "of each seed", f"from the {EXACT}",
    ]  # fmt: skip
    rows = [
        [
            one.name if one.name == EXACT else f"noise, {one.name}", words.over_seeds(one.gap, 3),
            words.over_seeds(one.ess, 3), words.over_seeds(one.corrected, 3), words.share(one.heldout),
            ", ".join(f"{100 * value:.1f}%" for value in one.by_seed),
            words.points(one.against) if one.against else "-",
        ]
        for one in found.ways
    ]  # fmt: skip
    note = (
        f"{words.seeds(found.seeds)}, {found.steps} steps each, from students with a held-out pass@1 of "
        f"{words.share(found.student)}. The engine's weights are multiplied by 1 + {found.noise:g} times normal noise, "
        "those that are evaluated are not. 95% intervals, bootstrap over the problems of all seeds; p of the paired "
        "difference."
    )
    return [Table("Each correction", header, rows, note)]


def draw(found: Findings, stem: Path) -> None:
    title = f"{TITLE}: tiny Qwen, {words.seeds(found.seeds)}, {found.steps} steps"
    note = (
        "Grey: the means of all. Band: lowest to highest of the seeds. Whiskers: 95%, bootstrap over problems; "
        "dashed, with its interval: before GRPO."
    )
    names = [LABELS.get(one.name, one.name) for one in found.ways]
    colours = [COLOURS[one.name] for one in found.ways]
    with figure.figure(stem, title, note, (1, len(names) + 1), size=(3.7, 3.4)) as (*training, heldout):
        figure.draw_separate_bands(training, [one.accuracy for one in found.ways], colours)
        for name, panel in zip(names, training, strict=True):
            panel.set(title="Exact engine" if name == LABELS[EXACT] else f"Perturbed engine, {name}")
            figure.in_percent(panel)
        training[0].set(ylabel="correct completions of a step")

        heldout.axhspan(*found.student.ci95, color="grey", alpha=0.15, linewidth=0)
        heldout.axhline(found.student.value, color="grey", linestyle="--")
        figure.draw_estimates(heldout, names, [one.heldout for one in found.ways], colours)
        heldout.set(title="Held-out problems, exact weights", ylabel="pass@1")
        figure.in_percent(heldout)
