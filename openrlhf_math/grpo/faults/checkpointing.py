"""Which steps get a checkpoint: those that are due, and the last whole step before a signal ends the run."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from openrlhf_math.grpo.faults.stopping import StopSignals

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


class Checkpointing:
    """steps: as for SaveSchedule; infinite for none. enabled: whether a signal may cause one.

    write: saves a checkpoint, of the step and what the trainer wants back from it. Raises CheckpointError.
    """

    def __init__(
        self, steps: float | None, enabled: bool, stop: StopSignals, write: Callable[[int, dict], None]
    ) -> None:
        self.schedule = SaveSchedule(steps)
        self.enabled = enabled and steps != math.inf
        self.stop, self.write = stop, write
        self._unsaved: tuple[int, dict] | None = None  # the last step, if it is in no checkpoint

    def end_step(self, step: int, states: dict) -> None:
        """The step is recorded. Raises KeyboardInterrupt if a signal came during the step."""
        self._unsaved = step, states
        if self.schedule.due(step) or (self.enabled and self.stop.number is not None):
            self._save()
        self.stop.release()

    @contextmanager
    def last_step_saved(self) -> Iterator[None]:
        """If a signal ends the block, the last whole step is saved first."""
        try:
            yield
        except KeyboardInterrupt:
            if self.stop.number is not None and self._unsaved and self.enabled:
                self.stop.hold()
                self._save()
            raise

    def _save(self) -> None:
        assert self._unsaved  # or there is nothing to save
        step, states = self._unsaved
        started = time.monotonic()
        self.write(step, states)
        self.stop.saved, self._unsaved = step, None
        self.schedule.saved(time.monotonic() - started)
