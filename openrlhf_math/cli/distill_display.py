"""What `openrlhf-math distill` shows: the plan, the progress, the result."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.data import chat_date
from openrlhf_math.report.table import visible

if TYPE_CHECKING:
    from rich.table import Table

    from openrlhf_math.distill.collect import Verdict
    from openrlhf_math.distill.questions import Tasks
    from openrlhf_math.distill.settings import DistillSettings
    from openrlhf_math.distill.teachers import Teacher
    from openrlhf_math.distill.yields import Point

FRAME_SECONDS = 0.2  # between two pictures of the bar
LINE_SECONDS = 30.0  # between two lines, where standard error is not a terminal


class Display:
    """See `distill.collect.Watcher`. draw: called with the attempts that have ended, those wanted, and a sentence."""

    def __init__(self, total: int, teacher: "Teacher", draw: Callable[[int, int, str], None], seconds: float) -> None:
        self._total, self._teacher, self._draw, self._seconds = total, teacher, draw, seconds
        self._ended = self._correct = self._new = self._tokens = 0
        self._begun: float | None = None  # of asking: replies in the journal say nothing about the teacher's rate
        self._drawn = time.monotonic()

    def judged(self, verdict: "Verdict", new: bool) -> None:
        now = time.monotonic()
        self._ended += 1
        self._correct += verdict.outcome == "correct"
        if new:
            self._new += 1
            self._tokens += verdict.tokens or 0
        elif not self._new:
            self._begun = now
        if now - self._drawn >= self._seconds:
            self.draw()

    def more(self, attempts: int) -> None:
        self._total += attempts

    def begin(self) -> None:
        self._begun = time.monotonic()

    def draw(self) -> None:
        self._drawn = time.monotonic()
        seconds = max(self._drawn - (self._begun or self._drawn), 1e-3)
        rate, left = self._new / seconds, self._total - self._ended
        parts = [
            f"{self._correct} correct", f"{rate:.1f} replies/s", f"{self._tokens / seconds:.0f} tokens/s",
            f"{self._teacher.failed_tries.total()} failed tries",
        ]  # fmt: skip
        if rate and left:
            parts.append(f"{_duration(left / rate)} left")
        self._draw(self._ended, self._total, ", ".join(parts))


@contextmanager
def display(total: int, teacher: "Teacher") -> Iterator[Display]:
    """A bar on standard error, or a line every `LINE_SECONDS` where that is not a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:

        def line(ended: int, wanted: int, text: str) -> None:
            print(f"{ended} of {wanted} attempts: {text}", file=sys.stderr, flush=True)

        shown = Display(total, teacher, line, LINE_SECONDS)
        shown.begin()
        yield shown
        shown.draw()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console) as bar:
        task = bar.add_task("attempts", total=total)

        def picture(ended: int, wanted: int, text: str) -> None:
            bar.update(task, completed=ended, total=wanted, description=text)

        shown = Display(total, teacher, picture, FRAME_SECONDS)
        shown.begin()
        yield shown
        shown.draw()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def describe(tasks: "Tasks", settings: "DistillSettings") -> str:
    """What would be asked, for --dry-run."""
    most = len(tasks.asked) * settings.most_attempts
    each = f"{settings.attempts} a problem"
    if settings.most_attempts > settings.attempts:
        each += f", up to {settings.most_attempts} while none is correct"
    where = {"engine": f"vLLM on {settings.engine.device}"}
    if settings.endpoint:
        where["endpoint"] = settings.endpoint.base_url
    left_out = f"{len(tasks.doubles)} doubles and {len(tasks.unparsable)} with unparsable gold answers left out"
    choice = settings.choice()
    date = f"{chat_date.line(settings.chat_date)}\n" if settings.chat_date else ""
    return (
        f"problems: {len(tasks.asked)} ({left_out})\n"
        f"attempts: {len(tasks.asked) * settings.attempts}, {each}, at most {most * settings.max_tokens:,} tokens\n"
        f"teacher: {settings.model} at {where.get(settings.teacher, settings.teacher)}\n{date}"
        f"keep: {settings.keep}, style {settings.style}, questions {choice['questions']}\n"
        f"output: {settings.output}"
    )


def show(report: dict, output: Path) -> None:
    """Print the report as tables."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    steps = Table("step", "count", title="From problems to traces")
    for step, count in report["counts"].items():
        steps.add_row(step, str(count))
    ends = Table("attempts ended", "count")
    for outcome, count in report["outcomes"].items():
        ends.add_row(Text(outcome), str(count))
    console.print(steps, ends)
    for kind in ("source", "difficulty"):
        table = Table(kind, title=f"Yield by {kind}")
        for column in ("problems", "refused", "correct", "kept", "yield", "tokens/kept"):
            table.add_column(column, justify="right", no_wrap=True)
        for group, found in [*report[f"by_{kind}"].items(), ("all", report["total"])]:
            row = found.as_row()
            shares = (f"{row[column]:.1%}" for column in ("refused_rate", "correct_rate"))
            cost = "-" if row["tokens_per_kept"] is None else f"{row['tokens_per_kept']:.0f}"
            table.add_row(
                Text(visible(group)), str(row["problems"]), *shares, str(row["kept"]), f"{row['yield']:.1%}", cost
            )
        console.print(table)
    console.print(_curve(report["by_attempts"]))
    for name in ("dataset", "report.json", "yield.png", "verdicts.jsonl", "rejects.jsonl"):
        if (output / name).exists():
            console.print(f"  {output / name}", soft_wrap=True, highlight=False)


def _curve(points: "list[Point]") -> "Table":
    """Problems solved by the number of attempts: up to 16 rows, then those of powers of two and the last."""
    from rich.table import Table

    table = Table(title="Solved by attempts")
    for column in ("attempts", "problems asked", "solved", "share", "tokens"):
        table.add_column(column, justify="right", no_wrap=True)
    for point in points:
        number = point.attempts
        if number <= 16 or number & (number - 1) == 0 or point is points[-1]:
            share = f"{point.solved / point.problems:.1%}"
            tokens = "-" if point.tokens is None else f"{point.tokens:,}"
            table.add_row(str(number), str(point.asked), str(point.solved), share, tokens)
    return table
