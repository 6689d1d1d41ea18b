"""Many tasks at once through Ray Data; few of them in this process."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class Workers:
    """Runs tasks. count: worker processes; 0 runs them here, None takes every core where there is more than one task.

    A task is a function of one picklable argument whose effect is a file, so it does not matter in which order or how
    often it runs.
    """

    def __init__(self, count: int | None) -> None:
        self.count = count
        self.started = False

    def run(self, task: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Any]:
        """Yields the argument of each task when it is done, in whatever order they end."""
        if self.count == 0 or self.count is None and len(arguments) < 2 and not self.started:
            for argument in arguments:
                task(argument)
                yield argument
        elif arguments:
            yield from self._run_with_ray(task, arguments)

    def _run_with_ray(self, task: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Any]:
        import ray.data

        self._start()
        data = ray.data.from_items([{"argument": one} for one in arguments], override_num_blocks=len(arguments))
        for done in data.map(_Task(task), compute=ray.data.TaskPoolStrategy(self.count)).iter_rows():
            yield done["argument"]

    def _start(self) -> None:
        import ray

        from openrlhf_math.colocation.cluster import start_or_join

        self.started = True
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of a coming change
        # What passes through the object store is file names and counts.
        local = {"num_cpus": self.count or os.cpu_count(), "object_store_memory": 80 << 20}
        start_or_join(local, log_to_driver=False, logging_level="ERROR")
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False

    def close(self) -> None:
        if self.started:
            import ray

            ray.shutdown()


class _Task:
    def __init__(self, task: Callable[[Any], Any]) -> None:
        self.task = task

    def __call__(self, row: dict) -> dict:
        self.task(row["argument"])
        return {"argument": row["argument"]}
