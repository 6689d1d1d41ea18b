"""A table before it is HTML or Markdown: its numbers, its texts made safe to look at, its form in GitHub's Markdown."""

import re
import unicodedata
from dataclasses import dataclass, field

HEAD, TAIL = 3000, 1000  # characters of a long text that are shown
# Control and format characters (ANSI codes, text that runs backwards, zero width), halves of surrogate pairs, line
# separators: what changes how other text looks, or is not text.
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})
MAYBE_HIDDEN = re.compile(r"[^\n\t -~]")


def visible(text: str) -> str:
    """The text with everything hidden written out, as \\x1b or \\u202e; line breaks and tabs stay."""
    return MAYBE_HIDDEN.sub(_written_out, text.replace("\r\n", "\n"))


def _written_out(found: re.Match) -> str:
    character = found.group()
    if unicodedata.category(character) not in HIDDEN:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shortened(text: str) -> str:
    """The head and the tail of a long text, and how much is left out between them."""
    left_out = len(text) - HEAD - TAIL
    if left_out <= 0:
        return text
    return f"{text[:HEAD]}\n[... {left_out:,} characters left out ...]\n{text[-TAIL:]}"


INTERVAL = "95% interval"  # the column behind which intervals are drawn


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class Table:
    """rows: of texts, as many as header. intervals: drawn next to the rows where the form can; one a row, or none;
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
    summary = [f"**{cell(result)}** {cell(of)}" for result, of in opening.headlines]
    summary += [f"{cell(run)} {cell(why)}" for run, why in opening.ended]
    return "\n\n".join([f"# {cell(title)}", *summary, *(_table(table) for table in tables)]) + "\n"


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
