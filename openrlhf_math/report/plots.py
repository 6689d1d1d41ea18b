"""Curves of runs on one axis, smoothed where there are enough steps, as SVG in the page's own colours."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from openrlhf_math.report.curves import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERIES = 8  # colours there are for runs
# Colours that stand in the figure for the page's variables: matplotlib wants a colour, the page has two of each.
INK, GRID = "#c0ffe8", "#c0ffe9"
COLOURS = [f"#c0ffe{number}" for number in range(SERIES)]
VARIABLES = {INK: "var(--ink)", GRID: "var(--grid)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(COLOURS)
}
SIZE = (4.6, 2.6)  # inches, at 72 points each: the view box, which the page scales

STYLE = {
    "svg.fonttype": "none",  # text stays text: small, and in the page's font
    "path.simplify": False,  # it would drop the dots, which are lines without length
    "text.parse_math": False,
    "font.size": 9,
    "axes.edgecolor": GRID, "axes.labelcolor": INK, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.6,
    "xtick.color": GRID, "ytick.color": GRID, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "text.color": INK, "figure.facecolor": "none", "axes.facecolor": "none",
}  # fmt: skip


@contextmanager
def drawing(title: str) -> Iterator[tuple]:
    """Axes to draw on while the block runs, and a list that has the SVG afterwards."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    drawn: list[Markup] = []
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": title}):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasSVG(figure)
        yield figure.subplots(), drawn
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn.append(_inlined(file.getvalue(), title))


def _inlined(svg: str, title: str) -> Markup:
    """Without parts that only a separate file needs, and without parts that would affect the page around it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)  # of groups; markers and clip paths have others
    svg = re.sub(r"font: ([\d.]+)px[^;\"]*", r"font-size: \1px", svg)
    # A hundredth of a point is enough; texts between the tags keep their digits.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag.group()), svg)
    svg = re.sub("|".join(VARIABLES), lambda colour: VARIABLES[colour.group()], svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    found = re.search(r'viewBox="[^"]*"', svg)
    assert found is not None  # Matplotlib writes one
    view = found.group()
    label = Markup("<svg {} role='img' aria-label='{}' xmlns:xlink='http://www.w3.org/1999/xlink'>")
    return label.format(Markup(view), title) + Markup(svg[svg.index(">") + 1 :])


SMOOTH_FROM = 20  # steps; fewer are joined as they are
SMOOTH_OVER, LEAST_WINDOW = 0.04, 5  # share of the steps that a point of the line is the mean of, and at least so many
MOST_DOTS, MOST_POINTS = 600, 1600  # that are drawn of all runs together
# Lines without length and with round ends: a tenth of the bytes of markers.
DOT = {"linewidth": 2.2, "solid_capstyle": "round"}
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)))


@dataclass(frozen=True, slots=True)
class Plot:
    """missing: steps whose value is not a number."""

    title: str
    note: str
    svg: Markup
    missing: int = 0


def plot(curve: Curve, runs: list[list[dict]]) -> Plot | None:
    """runs: their rows, in the order of their colours. None where no run has the curve, or it says nothing; or where no
    run has two points, as an axis would be made up: see `single_points`."""
    series = [_points(curve, rows) for rows in runs]
    values = [value for _, run in series for value in run]
    if not values or (not curve.zeros_matter and not any(values)) or max(len(run) for _, run in series) < 2:
        return None
    windows = [_window(len(run)) if curve.noisy else None for _, run in series]
    with drawing(f"{curve.title}, {curve.unit}") as (axes, drawn):
        for number, ((steps, run), window) in enumerate(zip(series, windows, strict=True)):
            style = line_style(number)
            if window:
                dots = _thinned(len(run), MOST_DOTS // len(runs))
                axes.plot(*_as_dots(steps[dots], run[dots]), **style | {"linestyle": "-"}, **DOT, alpha=0.35)
                run = smoothed(run, window).tolist()
            elif len(run) <= LEAST_WINDOW:
                axes.plot(steps, run, "o", color=style["color"], markersize=3, clip_on=False)
            points = _thinned(len(run), MOST_POINTS // len(runs))
            axes.plot(steps[points], run[points], **style, linewidth=1.6, clip_on=False)
        _dress(axes, curve, values)
    missing = sum(len(rows) for rows in runs if _points(curve, rows)[1]) - len(values)
    return Plot(curve.title, curve.note, drawn[0], missing)


def single_points(curve: Curve, runs: list[list[dict]]) -> list[tuple[int, float] | None]:
    """By run the step and the value of a curve whose runs have one point at the most; [] if one has more, or none has
    any."""
    series = [_points(curve, rows) for rows in runs]
    if max((len(steps) for steps, _ in series), default=0) != 1:
        return []
    return [(steps[0], values[0]) if steps else None for steps, values in series]


def line_style(number: int) -> dict:
    """Of a run by its place: a colour, and dashes where there are more runs than colours. As the page's legend."""
    return {"color": COLOURS[number % SERIES], "linestyle": DASHES[number // SERIES % len(DASHES)]}


def smoothed(values: list[float], window: int) -> np.ndarray:
    """The mean of each value and its neighbours on both sides, `window` in all (odd), fewer at the ends."""
    weights = np.ones(window)
    return np.convolve(values, weights, "same") / np.convolve(np.ones(len(values)), weights, "same")


def _thinned(length: int, most: int) -> slice:
    """Every n-th of so many, so that few enough are left."""
    return slice(None, None, max(1, -(-length // max(1, most))))


def _as_dots(steps: list, values: list) -> tuple[list, list]:
    gap = float("nan")
    return [x for step in steps for x in (step, step, gap)], [y for value in values for y in (value, value, gap)]


def _points(curve: Curve, rows: list[dict]) -> tuple[list[int], list[float]]:
    points = [(row["step"], value) for row in rows if (value := curve.value(row)) is not None]
    return [step for step, _ in points], [value for _, value in points]


def _window(steps: int) -> int | None:
    return None if steps < SMOOTH_FROM else max(LEAST_WINDOW, round(SMOOTH_OVER * steps) | 1)


def _dress(axes: "Axes", curve: Curve, values: list[float]) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    low, high = min(values), max(values)
    if curve.room:
        reach = max(curve.room, 1.1 * max(abs(low), abs(high)))
        axes.set_ylim(-reach, reach)
    elif curve.share:
        axes.set_ylim(0, min(1.0, max(0.05, 1.1 * high)))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    elif curve.from_zero and low >= 0:
        axes.set_ylim(0, 1.1 * high or 1)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.margins(x=0.02)
    axes.set_xlabel("step")
    axes.set_ylabel(curve.unit)
    axes.tick_params(length=0)
    axes.xaxis.label.set_color(INK)
