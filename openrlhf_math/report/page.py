"""One self-contained HTML page: no script, nothing from elsewhere, every text of a run escaped."""

import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from openrlhf_math.report.plots import SERIES, Plot
from openrlhf_math.report.samples import Samples
from openrlhf_math.report.table import INTERVAL, NO_OPENING, Interval, Opening, Table, visible

DASHES = ("solid", "dashed", "dotted")  # as plots.DASHES
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


def as_page(title: str, sections: list[Section], opening: Opening = NO_OPENING) -> str:
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
