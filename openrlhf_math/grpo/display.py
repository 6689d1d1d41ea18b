"""Showing a run's steps in the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from openrlhf_math.grpo.metrics import one_line


@contextmanager
def step_display(stream: TextIO) -> Iterator[Callable[[dict, int], None]]:
    """While the block runs, a progress bar on `stream`. Yields a function (record, steps in all) that shows a step."""
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
    console = Console(file=stream)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("GRPO: starting engines and actors", total=None)

        def show(record: dict, total: int) -> None:
            console.print(one_line(record), highlight=False, soft_wrap=True)
            progress.update(task, description="GRPO", total=total, completed=record["step"])

        yield show
