"""What `curate` and `sft` show while they read: a bar for each stage, or plain lines where there is no terminal."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from openrlhf_math.runs.progress import Moment, Pace, Progress

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
