"""A figure of several panels, as PNG and SVG."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.experiments.over_seeds import Band, Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE = {
    "font.size": 10, "axes.titlesize": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.axisbelow": True, "grid.alpha": 0.3, "legend.frameon": False,
}  # fmt: skip
SUFFIXES = (".png", ".svg")


@contextmanager
def figure(
    stem: Path, title: str, note: str, panels: tuple[int, int], size: tuple[float, float] = (5.6, 3.9)
) -> Iterator:
    """Axes, one a panel and row by row, to draw on within the block; written as `stem`.png and `stem`.svg at its end.

    panels: rows and columns. size: of each, inches. note: shown below them.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (rows, columns), (width, height) = panels, size
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": title}):
        drawn = Figure(figsize=(width * columns, height * rows + 0.7), layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn.subplots(rows, columns, squeeze=False).flatten()
        drawn.suptitle(title, fontsize=13)
        drawn.supxlabel(note, fontsize=9, color="dimgrey")
        for suffix in SUFFIXES:
            plain = {"Date": None} if suffix == ".svg" else {}
            drawn.savefig(stem.with_suffix(suffix), dpi=150, metadata=plain)


def draw_band(axes: "Axes", band: Band, colour: str, label: str | None = None) -> None:
    axes.fill_between(band.steps, band.low, band.high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(band.steps, band.mean, color=colour, label=label, marker="o" if len(band.steps) < 3 else None)


def draw_separate_bands(panels: Sequence["Axes"], bands: Sequence[Band], colours: Sequence[str]) -> None:
    """Each band in a panel with the same limits, with the means of the others in grey: overlapping bands cannot be
    distinguished."""
    low, high = min(min(one.low) for one in bands), max(max(one.high) for one in bands)
    margin = 0.05 * (high - low or 1)
    for panel, one, colour in zip(panels, bands, colours, strict=True):
        for other in bands:
            panel.plot(other.steps, other.mean, color="grey", alpha=0.35, linewidth=0.8)
        draw_band(panel, one, colour)
        panel.set_ylim(low - margin, high + margin)
        integer_steps(panel)


def draw_bars(
    axes: "Axes", names: Sequence[str], spreads: Sequence[Spread], colours: Sequence[str], number: str = ".2f"
) -> None:
    """A bar a name, as high as the mean, with its value, written as the format `number`, and a dot for every seed."""
    for place, (one, colour) in enumerate(zip(spreads, colours, strict=True)):
        axes.bar(place, one.mean, width=0.6, color=colour, alpha=0.55)
        axes.plot([place] * len(one.values), one.values, "o", color=colour, markersize=4)
        axes.annotate(f"{one.mean:{number}}", (place, one.high), xytext=(0, 5), textcoords="offset points", ha="center")
    axes.set_ylim(0, 1.15 * max(one.high for one in spreads) or 1)
    name_places(axes, names)


def draw_estimates(axes: "Axes", names: Sequence[str], estimates: Sequence, colours: Sequence[str]) -> None:
    """A point a name with its 95% interval. estimates: `over_seeds.Estimate`, or None where there is none."""
    for place, (one, colour) in enumerate(zip(estimates, colours, strict=True)):
        if one is None:
            continue
        low, high = (one.value if bound is None else bound for bound in one.ci95)
        axes.errorbar(place, one.value, [[one.value - low], [high - one.value]], fmt="o", color=colour, capsize=4)
    name_places(axes, names)


def name_places(axes: "Axes", names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.grid(axis="x", visible=False)


def in_percent(axes: "Axes") -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1))


def integer_steps(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.set_xlabel("GRPO step")
