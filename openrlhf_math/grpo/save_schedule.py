"""When a checkpoint is due."""

import time
from collections.abc import Callable

SHARE = 0.05  # of the time that saving may take, where the user does not say how often


class SaveSchedule:
    """steps: a checkpoint every so many; None for as often as saving takes no more than SHARE of the time, beginning
    with the first step, which shows what it costs and that it can be done."""

    def __init__(self, steps: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps, self.clock = steps, clock
        self.cost = 0.0  # seconds that the last one took
        self.saved_at = clock()

    def due(self, step: int) -> bool:
        if self.steps is not None:
            return step % self.steps == 0
        return self.cost <= SHARE * (self.clock() - self.saved_at)

    def saved(self, cost: float) -> None:
        """cost: seconds."""
        self.cost, self.saved_at = cost, self.clock()
