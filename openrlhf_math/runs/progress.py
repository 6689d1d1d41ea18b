"""Progress of a stage or of a training: work done, rate, and time left.

While the terminal shows it, what libraries print goes to a log file.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich import progress as rich_progress

# Called when a stage begins and whenever a part of it is done: the stage, how much is done, how much there is (0 where
# that is not known), and of what.
Progress = Callable[..., None]


def silent(stage: str, done: int = 0, total: int = 0, unit: str = "rows") -> None:
    """A progress that shows nothing."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A stage at one time. seconds: since it began. rate: a second, None before anything was done. left: seconds."""

    stage: str
    done: int
    total: int
    unit: str
    seconds: float
    rate: float | None
    left: float | None

    @property
    def text(self) -> str:
        if not (self.done or self.total):
            return ""
        parts = [f"{self.done:,}" + (f" of {self.total:,}" if self.total else "") + f" {self.unit}"]
        if self.rate is not None:
            parts.append(f"{self.rate:,.0f} a second")
        if self.left:
            parts.append(f"{duration(self.left)} left")
        return ", ".join(parts)

    @property
    def ended(self) -> bool:
        return 0 < self.total <= self.done


class Pace:
    """Reads the moments of the stages off a clock (seconds).

    What an earlier run had done counts as done and not as work of this one: a stage begins with its first call. The
    rate is that of the stage so far, as tasks of several workers end in bursts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: dict[str, tuple[float, int]] = {}

    def __call__(self, stage: str, done: int = 0, total: int = 0, unit: str = "rows") -> Moment:
        now = self._clock()
        since, before = self._begun.setdefault(stage, (now, done))
        seconds, new = now - since, done - before
        rate = new / seconds if new > 0 and seconds > 0 else None
        left = (total - done) / rate if rate and total > done else None
        return Moment(stage, done, total, unit, seconds, rate, left)


def duration(seconds: float) -> str:
    """Of seconds, as people read it: 8 s, 4 min 10 s, 2 h 5 min."""
    rounded = max(1, round(seconds))
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60} min"


def step_bar(stream: TextIO, transient: bool = False) -> "rich_progress.Progress":
    """rich's progress bar of a training's steps on `stream`. transient: whether it goes when it is done."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    return Progress(*columns, console=Console(file=stream), transient=transient)


def terminal_bar(*columns: "rich_progress.ProgressColumn", transient: bool = False) -> "rich_progress.Progress":
    """rich's progress bar on standard error, silent where that is not a terminal. columns: by default those of work
    whose amount is known."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    usual = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*(columns or usual), console=console, transient=transient, disable=not console.is_terminal)


@contextlib.contextmanager
def counted(what: str) -> Iterator[Callable[[], None]]:
    """A count on a terminal, of work whose amount is unknown. Yields a function to call after each one."""
    from rich.progress import TextColumn, TimeElapsedColumn

    with terminal_bar(TextColumn(f"{{task.completed}} {what}"), TimeElapsedColumn(), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def printed_to(log: Path) -> Iterator[None]:
    """While the block runs, what this process prints and logs is appended to a file.

    A handler of `logging` keeps the stream that it was made with, at the import of its library. In a process that was
    forked with its imports (`colocation/preloaded.py`) that is the terminal: such handlers are turned, too.
    """
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    handlers = {handler for logger in loggers for handler in getattr(logger, "handlers", ())}
    with (
        log.open("a") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
        contextlib.ExitStack() as stack,
    ):
        for handler in handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.__stdout__, sys.__stderr__):
                stack.callback(handler.setStream, handler.stream)
                handler.setStream(file)
        yield


LINE_SECONDS = 15.0  # between two lines of one stage


@contextlib.contextmanager
def progress(command: str = "curate") -> Iterator[Progress]:
    """Bars on standard error; lines where it is not a terminal, as in a log file."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(lambda line: print(line, file=sys.stderr, flush=True), command=command)
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn())
    with Bars(*columns, console=console) as bars:
        pace = Pace()
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int = 0, total: int = 0, unit: str = "rows") -> None:
            moment = pace(stage, done, total, unit)
            if stage not in tasks:
                for earlier in tasks.values():  # one without a total ends where the next stage begins
                    if bars.tasks[earlier].total is None:
                        bars.update(earlier, total=1, completed=1)
                tasks[stage] = bars.add_task(stage, total=total or None, text="")
            bars.update(tasks[stage], completed=done, total=total or None, text=moment.text)

        yield show


class Lines:
    """A line where a stage begins, where it ends, and every `LINE_SECONDS` in between.

    write: takes a line. clock: seconds. command: in front of each line.
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic, command: str = "curate"
    ) -> None:
        self._write, self._clock, self._pace, self._command = write, clock, Pace(clock), command
        self._stage, self._said = "", 0.0

    def __call__(self, stage: str, done: int = 0, total: int = 0, unit: str = "rows") -> None:
        moment = self._pace(stage, done, total, unit)
        now = self._clock()
        if stage != self._stage or moment.ended or now - self._said >= LINE_SECONDS:
            self._write(f"{self._command}: {_line(moment)}")
            self._stage, self._said = stage, now


def _line(moment: Moment) -> str:
    took = f" in {moment.seconds:.1f} s" if moment.ended and moment.rate else ""
    return f"{moment.stage}: {moment.text}{took}" if moment.text else moment.stage
