"""matplotlib's figures as SVG to stand inside a page, in the page's own colours, light and dark."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

from markupsafe import Markup

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
    """Without what only a file of its own needs, and without what would reach into the page around it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)  # of groups; markers and clip paths have others
    svg = re.sub(r"font: ([\d.]+)px[^;\"]*", r"font-size: \1px", svg)
    # A hundredth of a point is enough; texts between the tags keep their digits.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag.group()), svg)
    svg = re.sub("|".join(VARIABLES), lambda colour: VARIABLES[colour.group()], svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    view = re.search(r'viewBox="[^"]*"', svg).group()
    label = Markup("<svg {} role='img' aria-label='{}' xmlns:xlink='http://www.w3.org/1999/xlink'>")
    return label.format(Markup(view), title) + Markup(svg[svg.index(">") + 1 :])
