"""The gain from a teacher's log-probabilities: on-policy distillation against GRPO and SFT on the teacher's traces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openrlhf_math.evaluation.compare import Difference, Result
from openrlhf_math.experiments import curriculum, figure, words
from openrlhf_math.experiments.curriculum import Curve
from openrlhf_math.experiments.over_seeds import (
    Band,
    BySeed,
    Estimate,
    EvaluatedRun,
    Spread,
    band,
    differences,
    pass_at_1,
    scaled,
    spread,
)
from openrlhf_math.report.table import Table, percent

TITLE = "On-policy distillation from a larger tiny Qwen"
PLAIN = "GRPO"  # that the others are measured against
ALONE, BOTH, TRACES = "teacher alone", "teacher and reward", "SFT on its traces"
COLOURS = {PLAIN: "#7a7a7a", ALONE: "#1b6ca8", BOTH: "#3a9d5d", TRACES: "#d98a1f"}
REVERSE_KL = "teacher/reverse_kl"


@dataclass(frozen=True, slots=True)
class Run:
    """rows, evaluations: of a GRPO run, a record a step and one an evaluation; None for SFT.

    tokens: that were generated for it, by the student or the teacher. heldout: results of its model.
    """

    rows: list[dict] | None
    evaluations: list[dict] | None
    tokens: float
    heldout: list[Result]


@dataclass(frozen=True, slots=True)
class Way:
    """The runs of all seeds in one way. reached: tokens to the seed's target, as `curriculum` has it; fewer: as many
    times as GRPO; both None for SFT, whose model is known at its end only. against: of pass@1, from GRPO."""

    name: str
    tokens: Spread
    heldout: Estimate
    by_seed: list[float]
    against: Difference | None
    curves: list[Curve] | None
    reached: Spread | None
    fewer: Spread | None
    reverse_kl: Band | None


@dataclass(frozen=True, slots=True)
class Findings:
    """student, teacher: pass@1. targets: of each seed, the lowest accuracy that a run of GRPO ended with."""

    seeds: int
    steps: int
    student: Estimate
    teacher: Estimate
    targets: list[float]
    ways: list[Way]


def analyse(students: BySeed, teachers: BySeed, runs: Mapping[str, Sequence[Run]]) -> Findings:
    """runs: by way, one a seed, in the order of the students; `PLAIN` is among them."""
    starts = [pass_at_1([one]).value for one in students]
    curves = {
        name: [
            curriculum.curve(EvaluatedRun(run.rows or [], run.evaluations or []), window=1, start=start)
            for run, start in zip(same, starts, strict=True)
        ]
        for name, same in runs.items()
        if same[0].rows is not None
    }
    targets = [min(one.accuracy[-1] for one in same) for same in zip(*curves.values(), strict=True)]
    reached = {
        name: [one.reached(target)[1] for one, target in zip(same, targets, strict=True)]
        for name, same in curves.items()
    }
    plain = [run.heldout for run in runs[PLAIN]]

    def way(name: str, same: Sequence[Run]) -> Way:
        heldout = [run.heldout for run in same]
        trained = name in curves
        taught = trained and name != PLAIN
        return Way(
            name=name,
            tokens=spread([run.tokens for run in same]),
            heldout=pass_at_1(heldout),
            by_seed=[pass_at_1([one]).value for one in heldout],
            against=None if name == PLAIN else differences(plain, heldout)["pass_at_1"],
            curves=curves.get(name),
            reached=spread(reached[name]) if trained else None,
            fewer=curriculum.times_fewer(reached[PLAIN], reached[name]) if taught else None,
            reverse_kl=band([run.rows or [] for run in same], REVERSE_KL) if taught else None,
        )

    steps = max(row["step"] for row in runs[PLAIN][0].rows or ())
    ways = [way(name, same) for name, same in runs.items()]
    return Findings(len(students), steps, pass_at_1(students), pass_at_1(teachers), targets, ways)


def tables(found: Findings) -> list[Table]:
    header = ["way", "thousand tokens generated", "held-out pass@1", "of each seed", f"from {PLAIN}",
              "thousand tokens to the target", "times fewer", "reverse KL, first and last step"]  # fmt: skip
    rows = [
        [
            one.name, words.over_seeds(scaled(one.tokens, 1e-3), 0), words.share(one.heldout),
            ", ".join(f"{100 * value:.1f}%" for value in one.by_seed),
            words.points(one.against) if one.against else "-",
            words.over_seeds(scaled(one.reached, 1e-3), 0) if one.reached else "-",
            words.over_seeds(one.fewer) if one.fewer else "-",
            f"{one.reverse_kl.mean[0]:.3f}, {one.reverse_kl.mean[-1]:.3f}" if one.reverse_kl else "-",
        ]
        for one in found.ways
    ]  # fmt: skip
    targets = ", ".join(percent(one) for one in found.targets)
    note = (
        f"{words.seeds(found.seeds)}, {found.steps} steps each, from students with a held-out pass@1 of "
        f"{words.share(found.student)}; the teachers': {words.share(found.teacher)}. 95% intervals, bootstrap over the "
        f"problems of all seeds; p of the paired difference. The target of a seed is the lowest accuracy of the last "
        f"evaluation of a run of steps: {targets}; in brackets, lowest to highest of the seeds."
    )
    return [Table("Each way", header, rows, note)]


def draw(found: Findings, stem: Path) -> None:
    title = f"{TITLE}: {words.seeds(found.seeds)}, {found.steps} steps"
    note = "Left: a line for each seed, each point an evaluation. Whiskers: 95%, bootstrap over problems."
    with figure.figure(stem, title, note, (1, 3)) as (accuracy, divergence, heldout):
        for one in found.ways:
            for place, curve in enumerate(one.curves or ()):
                tokens = np.array(curve.tokens) / 1000
                label = None if place else one.name
                accuracy.plot(tokens, curve.accuracy, color=COLOURS[one.name], label=label, linewidth=1.2)
            if one.reverse_kl:
                figure.draw_band(divergence, one.reverse_kl, COLOURS[one.name], one.name)
        accuracy.axhline(found.teacher.value, color="black", linestyle=":", label="the teacher")
        accuracy.set(title="Held-out problems", xlabel="generated tokens, thousands", ylabel="pass@1, sampled")
        # Below the panel: lines of several seeds leave no room within it.
        accuracy.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=2)
        figure.in_percent(accuracy)
        divergence.set(title="Reverse KL to the teacher", ylabel="nats a token")
        divergence.legend(loc="best")
        figure.integer_steps(divergence)
        heldout.axhline(found.student.value, color="grey", linestyle="--", label="before")
        heldout.axhline(found.teacher.value, color="black", linestyle=":", label="the teacher")
        names = [one.name.replace(" ", "\n", 1) for one in found.ways]
        estimates, colours = [one.heldout for one in found.ways], [COLOURS[one.name] for one in found.ways]
        figure.draw_estimates(heldout, names, estimates, colours)
        heldout.set(title="At the end", ylabel="pass@1")
        heldout.legend(loc="best")
        figure.in_percent(heldout)
