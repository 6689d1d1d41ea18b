"""Showing a run's steps in the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.progress import Progress

from openrlhf_math.grpo.logs.metrics import one_line
from openrlhf_math.runs.progress import step_bar

STARTING = "GRPO: starting engines and actors"
Watcher = Callable[[dict, int], None]  # called with a step's record and the number of steps in all


class Display:
    """Where a run's steps are shown: called with a step's record and the number of steps in all."""

    def __init__(self, progress: Progress, watchers: tuple[Watcher, ...]) -> None:
        self._progress, self._watchers = progress, watchers
        self._task = progress.add_task(STARTING, total=None)
        self._moves = progress.console.is_terminal
        if not self._moves:  # a log file has no bar
            self.say(f"{STARTING} ...")

    def __call__(self, record: dict, total: int) -> None:
        self.say(one_line(record, total))
        self._progress.update(self._task, description="GRPO", total=total, completed=record["step"])
        for watcher in self._watchers:
            watcher(record, total)

    def begin(self, step: int) -> None:
        """Show that engines and actors are there and a step, which may take minutes, is being taken."""
        line = f"GRPO: step {step}"
        self._progress.update(self._task, description=line)
        if not self._moves:
            self.say(f"{line} ...")

    def say(self, line: str) -> None:
        """Print a line above the progress bar."""
        self._progress.console.print(line, highlight=False, soft_wrap=True)


@contextmanager
def step_display(stream: TextIO, *watchers: Watcher) -> Iterator[Display]:
    """While the block runs, a progress bar on `stream`. Yields what shows a step, also to `watchers`."""
    with step_bar(stream, transient=True) as progress:
        yield Display(progress, watchers)
