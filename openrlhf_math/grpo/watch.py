"""Showing a run's steps in the terminal while the trainer works in another process."""

import threading

from openrlhf_math.grpo.metrics import one_line

INTERVAL = 0.5  # seconds between two questions


def watch(trainer, done: threading.Event) -> None:
    """Print a line a step and keep a progress bar, until `done` is set. `trainer` holds the actor once created."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )
    with Progress(*columns, console=Console(), transient=True) as progress:
        task = progress.add_task("GRPO: starting engines and actors", total=None)
        seen = 0
        while not done.wait(INTERVAL):
            seen = _show_new_steps(trainer, seen, progress, task)
        _show_new_steps(trainer, seen, progress, task)


def _show_new_steps(trainer, seen: int, progress, task) -> int:
    import ray

    if not trainer.created:
        return seen
    try:
        total, records = ray.get(trainer.created[0].progress.remote(seen), timeout=30)
    except ray.exceptions.RayError:
        return seen  # the actor is dead or busy; the driver's own wait says why
    for record in records:
        progress.console.print(one_line(record), highlight=False, soft_wrap=True)
        progress.update(task, description="GRPO", total=total, completed=record["step"])
    return seen + len(records)
