"""The contents of a report, its sections, and the page: no script, nothing from elsewhere, every text escaped."""

import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from openrlhf_math.report.evaluations import comparison_table, evaluation_table, headlines, reranked_tables
from openrlhf_math.report.figures import (
    grpo_table,
    memory_plot,
    phases_of,
    single_table,
    time_plot,
    training_headlines,
    tuning_table,
)
from openrlhf_math.report.plots import (
    GRPO,
    SERIES,
    TUNING,
    Curve,
    Plot,
    evaluation_curves,
    part_curves,
    plot,
    single_points,
)
from openrlhf_math.report.runs import Evaluation, Found, Training, all_settings, differences
from openrlhf_math.report.samples import Samples, groups_of, samples_of, ungraded_of
from openrlhf_math.report.table import INTERVAL, Interval, Opening, Table, visible
from openrlhf_math.runs.process import FAILED, KILLED, STOPPED, state_of

DASHES = ("solid", "dashed", "dotted")  # in CSS, as `plots.DASHES`
TEMPLATES = Path(__file__).parent / "template"


@dataclass(frozen=True, slots=True)
class Section:
    """legend: names in the order of their colours. plots are in a grid, with the tables above them."""

    title: str
    note: str = ""
    legend: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    samples: tuple[Samples, ...] = ()
    folded: bool = False


def as_page(title: str, sections: list[Section], opening: Opening) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Whatever the template writes: what hides in a text is shown first, then escaped.
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    # Where a name that is too long for its column is broken first.
    environment.filters["parts"] = lambda text: re.split(r"(?<=[/_])(?=.)", text)
    template = environment.get_template("page.html.j2")
    return template.render(
        title=title,
        opening=opening,
        sections=sections,
        series=SERIES,
        dashes=DASHES,
        bar=bar,
        ends=ends,
        drawn_behind=INTERVAL,
    )


def ends(intervals: list[Interval | None]) -> tuple[float, float]:
    """The scale that all intervals of a table are drawn on: whole tenths around them."""
    summary = [one for one in intervals if one]
    low = min((one.low for one in summary), default=0.0)
    high = max((one.high for one in summary), default=1.0)
    return int(low * 10) / 10, -int(-high * 10 - 0.999) / 10


def bar(interval: Interval, scale: tuple[float, float]) -> dict[str, float]:
    """The position of an interval on the scale, in percent of its width."""
    low, high = scale
    return {
        name: 100 * (getattr(interval, name) - low) / (high - low or 1) for name in ("low", "value", "high")
    }  # fmt: skip


# What is said of a run whose process ended in this way.
ENDED = {FAILED: "failed", STOPPED: "was stopped", KILLED: "was killed, by whom it could not say,"}


def sections_of(found: Found, samples: int) -> list[Section]:
    """samples: problems shown of each pair of evaluations."""
    sections = [
        Section("Evaluations", tables=tuple(_evaluation_tables(found.groups))),
        Section("Several attempts", tables=tuple(reranked_tables(found))),
        *_trainings("GRPO", found.grpo, GRPO),
        *_phases(_with_steps(found.grpo)),
        *_trainings("Fine-tuning", found.tuning, TUNING),
        *_samples(found.groups, samples),
        Section("Groups and their advantages", samples=tuple(filter(None, map(groups_of, found.grpo)))),
        *_ungraded(found.grpo),
        *_settings([*found.grpo, *found.tuning]),
    ]
    return [section for section in sections if section.tables or section.plots or section.samples or section.note]


def opening_of(found: Found) -> Opening:
    """The result in one line, of GRPO runs alone where no evaluations can be compared, and why runs that did not finish
    ended."""
    ended = [(run.name, why) for run in (*found.grpo, *found.tuning) if (why := _why(run))]
    return Opening(tuple(headlines(found.groups) or training_headlines(found.grpo)), tuple(ended))


def _why(run: Training) -> str:
    """How a run ended that did not finish; "" for any other."""
    process = run.process
    if process is None or (state := state_of(process)) not in ENDED:
        return ""
    steps = f" of {process.steps}" if process.steps else ""
    cause = f": {process.cause}" if process.cause else ""
    return f"{ENDED[state]} after step {process.step}{steps}{cause}"


def tables_of(found: Found) -> list[Table]:
    tables = [*_evaluation_tables(found.groups), *reranked_tables(found)]
    if found.grpo:
        tables.append(grpo_table(found.grpo))
    if found.tuning:
        tables.append(tuning_table(found.tuning))
    return tables + [table for runs in (found.grpo, found.tuning) if (table := differences(runs)) and table.rows]


def _evaluation_tables(groups: list[list[Evaluation]]) -> list[Table]:
    return [table for table in (evaluation_table(groups), comparison_table(groups)) if table] if groups else []


def _trainings(title: str, runs: list[Training], curves: tuple[Curve, ...]) -> list[Section]:
    if not runs:
        return []
    table = (grpo_table if title == "GRPO" else tuning_table)(runs)
    drawn = _with_steps(runs)
    rows = [run.records.rows for run in drawn]
    plots = [plot(curve, rows) for curve in curves]
    single = single_table(curves, rows, drawn)
    empty = [curve.title for curve, each in zip(curves, plots, strict=True) if not (each or single_points(curve, rows))]
    without = [f"Without values, so not drawn: {', '.join(empty)}."] if empty and drawn else []
    plots += [plot(curve, rows) for curve in part_curves([row for each in rows for row in each])]
    evaluations = [run.evaluations.rows for run in drawn]
    held_out = evaluation_curves([row for each in evaluations for row in each])
    plots += [plot(curve, evaluations) for curve in held_out]
    tables = [table, single, single_table(held_out, evaluations, drawn)]
    legend = tuple(run.name for run in drawn)
    smoothed = "From 20 steps on, dots are single steps and a line is the mean over 4% of the steps around, at least 5."
    return [
        Section(
            title,
            " ".join([smoothed, *without, *_notes(runs)]),
            legend,
            tuple(filter(None, tables)),
            tuple(filter(None, plots)),
        )
    ]


def _notes(runs: list[Training]) -> list[str]:
    """What the reader must know to trust the figures."""
    summary = [f"{run.name} has no step yet." for run in runs if not run.records.rows]
    for run in runs:
        for name, records in (("metrics.jsonl", run.records), ("eval.jsonl", run.evaluations)):
            if records.unreadable:
                lines = "1 line" if records.unreadable == 1 else f"{records.unreadable} lines"
                verb = "is" if records.unreadable == 1 else "are"
                summary.append(f"{run.name}: {lines} of {name} cannot be read and {verb} left out.")
    return summary


def _with_steps(runs: list[Training]) -> list[Training]:
    return [run for run in runs if run.records.rows]


def _phases(runs: list[Training]) -> list[Section]:
    rows = [run.records.rows for run in runs]
    times: list[Plot | None] = [time_plot(run.records.rows, run.name) for run in runs]
    memory = memory_plot(rows)
    note = "Resident memory of the largest process on that side where there is no GPU, else the fullest device's."
    return [
        Section("Time by phase", legend=phases_of(rows) if any(times) else (), plots=tuple(filter(None, times))),
        Section("Memory by phase", note, tuple(run.name for run in runs), plots=(memory,)) if memory else Section(""),
    ]


def _samples(groups: list[list[Evaluation]], most: int) -> list[Section]:
    return [Section("Sample completions", samples=tuple(one for group in groups for one in samples_of(group, most)))]


def _ungraded(runs: list[Training]) -> list[Section]:
    return [Section("Ungraded completions", samples=tuple(ungraded_of(run) for run in runs if run.ungraded))]


def _settings(runs: list[Training]) -> list[Section]:
    by_kind = [[run for run in runs if run.kind == kind] for kind in dict.fromkeys(run.kind for run in runs)]
    return [
        Section("Settings that differ", tables=tuple(filter(None, map(differences, by_kind)))),
        Section("All settings", tables=tuple(map(all_settings, runs)), folded=True),
    ]
