"""A table before it is HTML or Markdown, how numbers are written in it, and its form in Markdown, GitHub's kind."""

import re
from dataclasses import dataclass, field

from openrlhf_math.report.visible import visible

INTERVAL = "95% interval"  # the column behind which intervals are drawn


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class Table:
    """rows: of texts, as many as header. intervals: drawn beside the rows where the form can; one a row, or none;
    intervals_of: what they are of.
    prose: whether cells are texts that may be long, and are broken into lines."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""
    intervals: list[Interval | None] = field(default_factory=list)
    intervals_of: str = ""
    prose: bool = False


@dataclass(frozen=True, slots=True)
class Opening:
    """What comes before all tables and sections. headlines: a result, and of what it is. ended: runs that did not
    finish, and why."""

    headlines: tuple[tuple[str, str], ...] = ()
    ended: tuple[tuple[str, str], ...] = ()


NO_OPENING = Opening()


def plain(value: float | None) -> str:
    """Four digits or all of an integer's, or a dash."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def between(ends: tuple | None) -> str:
    """An interval of shares in words; a bound that is None is none."""
    return "-" if ends is None else " to ".join("no bound" if end is None else percent(end) for end in ends)


# What would be markup: a cell is text. Underscores within words are none.
MARKUP = re.compile(r"[\\`*\[\]<>|&~#]")


def as_markdown(title: str, tables: list[Table], opening: Opening = NO_OPENING) -> str:
    told = [f"**{cell(result)}** {cell(of)}" for result, of in opening.headlines]
    told += [f"{cell(run)} {cell(why)}" for run, why in opening.ended]
    return "\n\n".join([f"# {cell(title)}", *told, *(_table(table) for table in tables)]) + "\n"


def cell(text: str) -> str:
    """A text that stays one cell and is shown as it is, whatever it holds."""
    return MARKUP.sub(lambda found: "\\" + found.group(), " ".join(visible(text).split()))


def _table(table: Table) -> str:
    lines = [f"## {cell(table.title)}", ""]
    if table.rows:
        lines += [_line(table.header), "|" + "---|" + "---:|" * (len(table.header) - 1)]
        lines += [_line(row) for row in table.rows]
    if table.note:
        lines += ["", cell(table.note)]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(map(cell, cells)) + " |"
