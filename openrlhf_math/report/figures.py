"""Trainings in figures: a row a quantity, a column a run; and where a step's time and memory go, by phase."""

from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING

from openrlhf_math.report.plots import (
    COLOURS,
    GRPO,
    OPENRLHF_EVALUATION,
    TUNING,
    Curve,
    Plot,
    drawing,
    line_style,
    single_points,
)
from openrlhf_math.report.runs import Training
from openrlhf_math.report.table import Table, percent, plain
from openrlhf_math.runs.records import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDS = 0.1  # share of the steps that are a run's beginning, and its end
LARGEST = ("Policy loss", "Log-probability gap", "Ungraded completions", "Peak memory")


def grpo_table(runs: list[Training]) -> Table:
    rows = [["steps", *(str(len(run.records.rows)) for run in runs)]]
    rows += [_largest_row(curve, runs) if curve.title in LARGEST else _curve_row(curve, runs) for curve in GRPO]
    rows.append(["seconds to the end of the first step", *(_first(run.records.rows) for run in runs)])
    rows.append(["seconds a step, after the first", *(_mean_seconds(run.records.rows, None) for run in runs)])
    phases = phases_of(run.records.rows for run in runs)
    rows += [[f"... {name}", *(_mean_seconds(run.records.rows, at) for run in runs)] for at, name in enumerate(phases)]
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
    if any(number(row, "majority/rate") for row in rows):
        what = "completions that agree with their label, where there is no gold answer that of their group's majority,"
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
    if not values or (not curve.zeros_matter and not any(values)):
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


# What OpenRLHF times, and the moves between phases that it times within (docs/colocation.md).
WITHIN = {
    "generation": ("wake_kv_cache",),
    "make_experience": (),
    "ppo_train": ("reload", "offload"),
    "broadcast": (),
}
NAMES = (
    "generation", "experience", "training", "weights to vLLM", "waking, sleeping, offloading", "waiting for rollouts",
)  # fmt: skip
WAIT = "timing/rollout_wait"  # with `--math.overlap`
MOVES = ("wake_weights", "wake_kv_cache", "sleep", "reload", "offload", "transfer")
# In the order of a step: before generation, before training, after it, and before the next generation.
CYCLE = (
    ("wake_kv_cache", "wake\nKV cache"),
    ("sleep", "engines\nsleep"),
    ("reload", "reload\nstates"),
    ("offload", "offload\nstates"),
    ("wake_weights", "wake\nweights"),
    ("transfer", "weights\nto vLLM"),
)
MOST_BARS = 120
CUT_ABOVE = 2.0  # times the slowest step but the first: a first step compiles, and would flatten the others


def phases_of(runs: Iterable[list[dict]]) -> tuple[str, ...]:
    """NAMES, and the last of them only if some run generates a batch while it trains on another."""
    return NAMES if any(WAIT in row for rows in runs for row in rows) else NAMES[:-1]


def seconds(row: dict) -> list[float] | None:
    """Seconds of each phase of NAMES. They add up to timing/step_total. None if the run did not record them."""
    parts = {name: value for name in WITHIN if (value := number(row, f"timing/{name}")) is not None}
    if len(parts) < len(WITHIN):
        return None
    moves = {name: number(row, f"timing/{name}") or 0.0 for name in MOVES}
    remaining = [max(0.0, parts[name] - sum(moves[move] for move in within)) for name, within in WITHIN.items()]
    moved = sum(moves[move] for within in WITHIN.values() for move in within) + moves["sleep"]
    return [*remaining, moved, number(row, WAIT) or 0.0]


def time_plot(rows: list[dict], name: str) -> Plot | None:
    """The seconds of a run's steps, its phases on top of each other; of many steps, means of neighbours. None for fewer
    than two steps: the table has those of one."""
    summary = [(row["step"], found) for row in rows if (found := seconds(row))]
    if len(summary) < 2:
        return None
    together = -(-len(summary) // MOST_BARS)
    groups = [summary[start : start + together] for start in range(0, len(summary), together)]
    edges = [group[0][0] - 0.5 for group in groups] + [groups[-1][-1][0] + 0.5]
    layers = [[sum(each[1][at] for each in group) / len(group) for group in groups] for at in range(len(NAMES))]
    totals = [sum(layer[bar] for layer in layers) for bar in range(len(groups))]
    note = f"means of {together} steps" if together > 1 else "each step"
    with drawing("Seconds of a step by phase") as (axes, drawn):
        below = [0.0] * len(groups)
        for layer, colour in zip(layers, COLOURS, strict=False):
            above = [low + more for low, more in zip(below, layer, strict=True)]
            axes.stairs(above, edges, baseline=below, fill=True, color=colour, linewidth=0)
            below = above
        top = 1.08 * max(totals)
        if len(totals) > 1 and totals[0] > CUT_ABOVE * max(totals[1:]):
            top = 1.25 * max(totals[1:])
            note += f"; the first, {totals[0]:.1f} s, is cut off"
        _dress(axes, edges, top)
    return Plot(name, note, drawn[0])


def memory_plot(runs: list[list[dict]]) -> Plot | None:
    """Memory before and after each move of a step, the median over the steps after the first, all runs."""
    levels = [_levels(rows) for rows in runs]
    if not any(levels):
        return None
    with drawing("GiB through a step") as (axes, drawn):
        for at_run, found in enumerate(levels):
            if found:
                places = [at + side for at in range(len(CYCLE)) for side in (-0.22, 0.22)]
                axes.plot(places, found, marker="o", markersize=3, linewidth=1.4, **line_style(at_run))
        axes.set_xticks(range(len(CYCLE)), [label for _, label in CYCLE], fontsize=7.5)
        axes.set_ylim(0, 1.1 * max(max(found) for found in levels if found) or 1)
        axes.set_ylabel("GiB")
        axes.tick_params(length=0)
        axes.grid(axis="x", visible=False)
    return Plot("Memory through a step", "before and after each move, median over steps", drawn[0])


def _levels(rows: list[dict]) -> list[float] | None:
    """GiB before and after each move of CYCLE; None if the run did not record all."""
    found: list[float] = []
    for move, _ in CYCLE:
        for side in ("before", "after"):
            name = f"memory/{move}_{side}"
            values = [value for row in rows[1:] or rows if (value := number(row, name)) is not None]
            if not values:
                return None
            found.append(median(values))
    return found


def _dress(axes: "Axes", edges: list[float], top: float) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_ylim(0, top or 1)
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("step")
    axes.set_ylabel("seconds")
    axes.tick_params(length=0)
