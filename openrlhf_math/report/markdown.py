"""Tables in Markdown, GitHub's kind."""

import re

from openrlhf_math.report.table import Table
from openrlhf_math.report.visible import visible

# What would be markup: a cell is text. Underscores within words are none.
MARKUP = re.compile(r"[\\`*\[\]<>|&~#]")


def as_markdown(title: str, tables: list[Table]) -> str:
    return "\n\n".join([f"# {cell(title)}", *(_table(table) for table in tables)]) + "\n"


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
