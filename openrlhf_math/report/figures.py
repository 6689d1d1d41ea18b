"""Trainings in figures: a row a quantity, a column a run."""

from collections.abc import Sequence
from statistics import fmean

from openrlhf_math.report.curves import GRPO, OPENRLHF_EVALUATION, TUNING, Curve
from openrlhf_math.report.phases import NAMES, seconds
from openrlhf_math.report.plots import single_points
from openrlhf_math.report.records import number
from openrlhf_math.report.runs import Training
from openrlhf_math.report.table import Table, percent, plain

ENDS = 0.1  # share of the steps that are a run's beginning, and its end
LARGEST = ("Policy loss", "Log-probability gap", "Ungraded completions", "Peak memory")


def grpo_table(runs: list[Training]) -> Table:
    rows = [["steps", *(str(len(run.records.rows)) for run in runs)]]
    rows += [_largest_row(curve, runs) if curve.title in LARGEST else _curve_row(curve, runs) for curve in GRPO]
    rows.append(["seconds to the end of the first step", *(_first(run.records.rows) for run in runs)])
    rows.append(["seconds a step, after the first", *(_mean_seconds(run.records.rows, None) for run in runs)])
    rows += [[f"... {name}", *(_mean_seconds(run.records.rows, at) for run in runs)] for at, name in enumerate(NAMES)]
    rows = [row for row in rows if set(row[1:]) != {"-"}]
    note = "a to b: the mean of the first tenth of the steps, and of the last"
    return Table("GRPO", ["", *(run.name for run in runs)], rows, note)


def training_headlines(runs: list[Training]) -> list[tuple[str, str]]:
    """What became of accuracy and length during each run, and of what that is: of the evaluations during the run where
    there are two or more, else of the training completions, in the first tenth of the steps and the last."""
    return [found for run in runs for found in _held_out_headlines(run) or _training_headlines(run)]


def _held_out_headlines(run: Training) -> list[tuple[str, str]]:
    """One for each source of problems with two evaluations."""
    rows, found = run.evaluations.rows, []
    for name in dict.fromkeys(name for row in rows for name in row):
        match = OPENRLHF_EVALUATION.fullmatch(name)
        if not match or match["what"] != "pass1" or not match["of"]:
            continue
        points = [(row, value) for row in rows if (value := number(row, name)) is not None]
        if len(points) < 2:
            continue
        (first, before), (last, after) = points[0], points[-1]
        result, what = f"{before:.1%} → {after:.1%}", f"pass@1 on {match['of'].rstrip('_')}"
        lengths = f"eval_{match['of']}response_length_mean"
        if (start := number(first, lengths)) is not None and (end := number(last, lengths)) is not None:
            result, what = f"{result}, {start:,.0f} → {end:,.0f} tokens", f"{what} and tokens a completion"
        what += f", evaluated after step {first['step']} and after step {last['step']}, {run.name}"
        found.append((result, what))
    return found


def _training_headlines(run: Training) -> list[tuple[str, str]]:
    rows = run.records.rows
    shares, lengths = (
        [value for row in rows if (value := number(row, name)) is not None]
        for name in ("accuracy", "completion_length")
    )
    if len(shares) < 2:
        return []
    end = _end(shares)
    result, what = f"{fmean(shares[:end]):.1%} → {fmean(shares[-end:]):.1%}", "correct completions of training problems"
    if len(lengths) == len(shares):
        result += f", {fmean(lengths[:end]):,.0f} → {fmean(lengths[-end:]):,.0f} tokens"
        what += " and tokens a completion"
    steps = f"first {end} and last {end} of {len(rows)} steps" if end > 1 else f"first and last of {len(rows)} steps"
    return [(result, f"{what}, {steps}, {run.name}; no evaluations to compare")]


def tuning_table(runs: list[Training]) -> Table:
    rows = [["steps", *(str(len(run.records.rows)) for run in runs)]]
    rows += [_curve_row(curve, runs) for curve in TUNING]
    return Table(
        "Fine-tuning", ["", *(run.name for run in runs)], rows,
        "a to b: the mean of the first tenth of the steps, and of the last",
    )  # fmt: skip


def single_table(curves: Sequence[Curve], rows: list[list[dict]], runs: list[Training]) -> Table | None:
    """Curves of which no run has more than one point: the values, in place of a figure. rows: by run."""
    found = []
    for curve in curves:
        show = percent if curve.share else plain
        if points := single_points(curve, rows):
            summary = [f"{show(point[1])} (step {point[0]})" if point else "-" for point in points]
            found.append([f"{curve.title} ({curve.note})", *summary])
    return Table("Measured once", ["", *(run.name for run in runs)], found) if found else None


def _curve_row(curve: Curve, runs: list[Training]) -> list[str]:
    unit = "" if curve.share or curve.title.lower() == curve.unit else f" ({curve.unit})"
    return [_in_a_row(curve.title) + unit, *(_from_to(curve, run.records.rows) for run in runs)]


def _largest_row(curve: Curve, runs: list[Training]) -> list[str]:
    unit = "" if curve.share or curve.title.lower().endswith(curve.unit) else f" ({curve.unit})"
    return [f"{_in_a_row(curve.title)}, largest{unit}", *(_largest(curve, run.records.rows) for run in runs)]


def _in_a_row(title: str) -> str:
    """With a small letter at the beginning, but of an abbreviation as KL."""
    return title if title[:2].isupper() else title[0].lower() + title[1:]


def _from_to(curve: Curve, rows: list[dict]) -> str:
    values = _values(curve, rows)
    if not values or (not curve.zeros_tell and not any(values)):
        return "-"
    show = percent if curve.share else plain
    end = _end(values)
    return f"{show(fmean(values[:end]))} to {show(fmean(values[-end:]))}"


def _end(values: list[float]) -> int:
    """How many values are a run's beginning, and its end."""
    return max(1, round(ENDS * len(values)))


def _largest(curve: Curve, rows: list[dict]) -> str:
    values = _values(curve, rows)
    show = percent if curve.share else plain
    return show(max(map(abs, values))) if values else "-"


def _values(curve: Curve, rows: list[dict]) -> list[float]:
    return [value for value in map(curve.value, rows) if value is not None]


def _first(rows: list[dict]) -> str:
    first = number(rows[0], "seconds_since_start") if rows else None
    return "-" if first is None else f"{first:.2f}"


def _mean_seconds(rows: list[dict], phase: int | None) -> str:
    """phase: its place in NAMES; None for the whole step."""
    summary = [found for row in rows[1:] or rows if (found := seconds(row))]
    return f"{fmean(sum(each) if phase is None else each[phase] for each in summary):.2f}" if summary else "-"
