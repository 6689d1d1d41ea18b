"""The states of runs for a person."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from openrlhf_math.report.table import visible
from openrlhf_math.runs.process import FAILED, FINISHED, KILLED, RUNNING
from openrlhf_math.status.status import TRAININGS, Status

COLOURS = {RUNNING: "green", FINISHED: "blue", KILLED: "red", FAILED: "red"}


def page(statuses: list[Status]) -> RenderableType:
    parts: list[RenderableType] = []
    for status in statuses:
        parts += [*_parts(status), Text()]
    return Group(*parts[:-1])


def _parts(status: Status) -> list[RenderableType]:
    head = Text.assemble(f"  {status.kind}  ", (status.state, COLOURS.get(status.state, "yellow")))
    if progress := progress_line(status):
        head.append(f"  {progress}")
    parts: list[RenderableType] = [Text(visible(status.name), "bold"), head]
    if status.cause:
        parts.append(Text(f"  {visible(status.cause)}"))
    if status.silent:
        parts.append(Text(f"  no step for {duration(status.silent_seconds or 0.0)}: it may hang", "red"))
    if status.changes:
        parts.append(_table(status))
    if status.unreadable:
        parts.append(Text(f"  {status.unreadable} lines of metrics.jsonl cannot be read and are left out", "yellow"))
    if status.evaluation:
        figures = "  ".join(
            f"{visible(name)} {value:.4g}" for name, value in status.evaluation.items() if name != "step"
        )
        when = f"evaluation of step {status.evaluation['step']:.0f}" if "step" in status.evaluation else "results"
        parts.append(Text(f"  {when}: {figures}"))
    if status.checkpoint:
        parts.append(Text(f"  newest checkpoint: {status.checkpoint}"))
    if status.go_on:
        parts.append(Text(f"  resume with: {visible(status.go_on)}", overflow="fold"))
    return parts


def progress_line(status: Status) -> str:
    """How far, how fast, how long still."""
    if status.kind not in TRAININGS:
        return f"{status.step:,} records" if status.step else ""
    if not status.step:
        waited = f" for {duration(status.silent_seconds)}" if status.silent_seconds is not None else ""
        return f"starting{waited}" if status.at_work else "no step was done"
    parts = [f"step {status.step} of {status.steps}" if status.steps else f"step {status.step}"]
    if status.seconds_a_step is not None:
        parts.append(f"{status.seconds_a_step:.3g} s a step")
    if status.eta_seconds is not None:
        parts.append(f"{duration(status.eta_seconds)} left")
    if status.silent_seconds is not None:
        parts.append(f"last step {duration(status.silent_seconds)} ago")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """In two units at the most: "45 s", "3 min 20 s", "5 h 10 min", "2 d 3 h"."""
    seconds = max(0, round(seconds))
    for unit, size, less, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit}" + (f" {rest} {less}" if rest else "")
    return f"{seconds} s"


def _table(status: Status) -> Table:
    steps = status.window
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("  mean of", style="dim")
    table.add_column(f"first {steps} steps" if steps > 1 else "first step", justify="right")
    table.add_column(f"last {steps} steps" if steps > 1 else "last step", justify="right")
    for name, change in status.changes.items():
        table.add_row(f"  {name}", f"{change.first:.4g}", f"{change.last:.4g}")
    return table
