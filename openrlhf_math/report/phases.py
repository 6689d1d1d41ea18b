"""Where a step's time and memory go, by phase."""

from statistics import median
from typing import TYPE_CHECKING

from openrlhf_math.report.plots import COLOURS, Plot, drawing, line_style
from openrlhf_math.report.records import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What OpenRLHF times, and the moves between phases that it times within (docs/colocation.md).
WITHIN = {
    "generation": ("wake_kv_cache",),
    "make_experience": (),
    "ppo_train": ("reload", "offload"),
    "broadcast": (),
}
NAMES = ("generation", "experience", "training", "weights to vLLM", "waking, sleeping, offloading")
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


def seconds(row: dict) -> list[float] | None:
    """Seconds of each phase of NAMES. They add up to timing/step_total. None if the run does not tell."""
    parts = {name: value for name in WITHIN if (value := number(row, f"timing/{name}")) is not None}
    if len(parts) < len(WITHIN):
        return None
    moves = {name: number(row, f"timing/{name}") or 0.0 for name in MOVES}
    own = [max(0.0, parts[name] - sum(moves[move] for move in within)) for name, within in WITHIN.items()]
    moved = sum(moves[move] for within in WITHIN.values() for move in within) + moves["sleep"]
    return [*own, moved]


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
    """GiB before and after each move of CYCLE; None if the run does not tell all."""
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
