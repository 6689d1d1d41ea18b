"""Showing a run's steps in the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from openrlhf_math.grpo.metrics import one_line


def step_bar(stream: TextIO, transient: bool = False):
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


Watcher = Callable[[dict, int], None]  # called with a step's record and the number of steps in all


@contextmanager
def step_display(stream: TextIO, *watchers: Watcher) -> Iterator[Watcher]:
    """While the block runs, a progress bar on `stream`. Yields a function that shows a step, also to `watchers`."""
    with step_bar(stream, transient=True) as progress:
        task = progress.add_task("GRPO: starting engines and actors", total=None)

        def show(record: dict, total: int) -> None:
            progress.console.print(one_line(record, total), highlight=False, soft_wrap=True)
            progress.update(task, description="GRPO", total=total, completed=record["step"])
            for watcher in watchers:
                watcher(record, total)

        yield show
