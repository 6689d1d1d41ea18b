"""Showing the steps of a fine-tuning in the terminal: SFT, and a process reward model's."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

from openrlhf_math.runs.process import resume_command, working
from openrlhf_math.runs.progress import step_bar
from openrlhf_math.sft.settings import is_first


class Progress:
    """Shows a training: called with each step's record and the number of steps in all."""

    def __init__(self, title: str, bar: "Bar", beat: Callable[[dict, int], None]) -> None:
        self._title, self._bar, self._beat = title, bar, beat
        self._task = bar.add_task(f"{title}: loading", total=None)

    def __call__(self, record: dict, total: int) -> None:
        description = f"{self._title}: loss {record['loss']:.3f}"
        self._bar.update(self._task, description=description, total=total, completed=record["step"])
        self._beat(record, total)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, highlight=False, soft_wrap=True)


class Silent:
    """Of the processes that show nothing."""

    def __call__(self, record: dict, total: int) -> None: ...

    def say(self, line: str) -> None: ...


@contextlib.contextmanager
def progress_of(title: str, run_dir: Path) -> Iterator[Progress | Silent]:
    """What shows the steps, while this process is at work in the run's directory."""
    if not is_first():
        yield Silent()
        return
    at_work = working("--math.run_dir", run_dir, resume_command())
    with at_work as beat, step_bar(sys.stdout) as bar:  # the terminal, before stdout is redirected
        yield Progress(title, bar, beat)
