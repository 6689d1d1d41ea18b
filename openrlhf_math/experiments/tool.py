"""The gain from a tool: GRPO on products that the model cannot compute itself, with Python and without."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from openrlhf_math.experiments import figure, words
from openrlhf_math.experiments.over_seeds import (
    Band,
    EvaluatedRun,
    Spread,
    band,
    evaluated_pass_at_1,
    spread,
    values_of,
)
from openrlhf_math.report.table import Table, percent

TITLE = "GRPO with Python as a tool"
WITH, WITHOUT = "with the tool", "without"
COLOURS = {WITH: "#1b6ca8", WITHOUT: "#7a7a7a"}


@dataclass(frozen=True, slots=True)
class Way:
    """The runs of all seeds, with the tool or without.

    accuracy, calls: of training completions by step, on problems that no step before had. begun: their accuracy in the
    first step, which is the student's. heldout: pass@1 of the last evaluation. Of calls, failures, tokens and seconds,
    the values of the last step; seconds of a step: the median of a run's steps but the first.
    """

    name: str
    accuracy: Band
    calls: Band | None
    begun: Spread
    heldout: Spread
    calls_at_end: Spread | None
    failed_at_end: Spread | None
    tool_tokens: Spread | None
    tokens: Spread
    step_seconds: Spread


@dataclass(frozen=True, slots=True)
class Findings:
    """problems: held out, for each seed, times the completions of each."""

    seeds: int
    steps: int
    completions: int
    ways: list[Way]


def analyse(runs: Mapping[str, Sequence[EvaluatedRun]]) -> Findings:
    """runs: by way, one a seed."""
    ways = [_way(name, same) for name, same in runs.items()]
    first = next(iter(runs.values()))
    completions = int(first[0].evaluations[-1]["eval_num_samples"])
    return Findings(len(first), ways[0].accuracy.steps[-1], completions, ways)


def _way(name: str, runs: Sequence[EvaluatedRun]) -> Way:
    def last(what: str) -> Spread | None:
        values = [values_of(run.rows, what)[-1:] for run in runs]
        return spread([one for (one,) in values]) if all(values) else None

    tokens = last("completion_length")
    assert tokens is not None  # every run has it
    return Way(
        name=name,
        accuracy=band([run.rows for run in runs], "accuracy"),
        calls=band([run.rows for run in runs], "tool/calls") if last("tool/calls") else None,
        begun=spread([values_of(run.rows, "accuracy")[0] for run in runs]),
        heldout=spread([evaluated_pass_at_1(run.evaluations[-1]) for run in runs]),
        calls_at_end=last("tool/calls"),
        failed_at_end=last("tool/failed_rate"),
        tool_tokens=last("tool/token_share"),
        tokens=tokens,
        step_seconds=spread([median(values_of(run.rows[1:] or run.rows, "timing/step_total")) for run in runs]),
    )


def tables(found: Findings) -> list[Table]:
    def row(name: str, write: Callable[[Way], Spread | None], digits: int = 2, share: bool = False) -> list[str]:
        return [name, *(_written(write(one), digits, share) for one in found.ways)]

    rows = [
        row("accuracy in the first step", lambda one: one.begun, share=True),
        row("held-out pass@1 at the end", lambda one: one.heldout, share=True),
        row("calls a completion in the last step", lambda one: one.calls_at_end),
        row("calls that failed in the last step", lambda one: one.failed_at_end, share=True),
        row("tokens a completion in the last step", lambda one: one.tokens, 1),
        row("of these the tool's", lambda one: one.tool_tokens, share=True),
        row("seconds a step", lambda one: one.step_seconds),
    ]
    note = (
        f"{words.seeds(found.seeds)}, {found.steps} steps each, the same student for both. Held-out problems: sampled "
        f"{found.completions} times for each seed. In brackets: lowest to highest of the seeds."
    )
    return [Table("Products of two numbers of four digits", ["", *(one.name for one in found.ways)], rows, note)]


def _written(one: Spread | None, digits: int, share: bool) -> str:
    if one is None:
        return "-"
    if not share:
        return words.over_seeds(one, digits)
    text = percent(one.mean)
    return text if len(one.values) == 1 else f"{text} ({percent(one.low)} to {percent(one.high)})"


def draw(found: Findings, stem: Path) -> None:
    title = f"{TITLE}: tiny Qwen, {words.seeds(found.seeds)}, {found.steps} steps"
    note = "Bands: lowest to highest of the seeds on training problems not met before. Dots: each seed."
    with figure.figure(stem, title, note, (1, 3)) as (accuracy, calls, heldout):
        for one in found.ways:
            figure.draw_band(accuracy, one.accuracy, COLOURS[one.name], one.name)
            if one.calls:
                figure.draw_band(calls, one.calls, COLOURS[one.name])
        accuracy.set(title="Training problems, each met once", ylabel="correct completions", ylim=(-0.02, 1.02))
        accuracy.legend(loc="best")
        figure.in_percent(accuracy)
        calls.set(title="Calls of the tool", ylabel="calls a completion")
        calls.set_ylim(bottom=0)
        for axes in (accuracy, calls):
            figure.integer_steps(axes)
        names, colours = [one.name for one in found.ways], [COLOURS[one.name] for one in found.ways]
        figure.draw_bars(heldout, names, [one.heldout for one in found.ways], colours, number=".0%")
        heldout.set(title="Held-out problems after GRPO", ylabel="pass@1, sampled")
        figure.in_percent(heldout)
