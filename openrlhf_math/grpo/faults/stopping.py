"""SIGTERM and Ctrl-C: the step in flight is left or brought to its end, a checkpoint is saved, the run ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """A run that a signal ended. number: the signal's. saved: the step to resume from, None for none."""

    def __init__(self, number: int, saved: int | None) -> None:
        self.number, self.saved = number, saved
        where = f"after step {saved}, which is saved" if saved else "with nothing saved"
        super().__init__(f"stopped by {signal.Signals(number).name} {where}")


class StopSignals:
    """What was asked for, and whether it must wait. number: the signal's. saved: the newest step in a checkpoint.

    A signal interrupts with KeyboardInterrupt, which ends a wait for Ray, too. While the run is held, from the
    beginning of a gradient step until that step is recorded, it waits for `release`. A second Ctrl-C does not wait.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.saved: int | None = None
        self._held = False

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        """Raises KeyboardInterrupt if a signal came meanwhile."""
        self._held = False
        if self.number is not None:
            raise KeyboardInterrupt

    def receive(self, number: int, frame: object = None) -> None:
        first = self.number is None
        if first:
            self.number = number
        if (first and not self._held) or (not first and number == signal.SIGINT):
            raise KeyboardInterrupt


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """While the block runs, SIGTERM and SIGINT go to the object it is given. Only for a process's main thread.

    Raises Stopped where one of them ended the block.
    """
    stop = StopSignals()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, stop.receive) for number in numbers]
    try:
        yield stop
    except KeyboardInterrupt:
        if stop.number is None:
            raise
        raise Stopped(stop.number, stop.saved) from None
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
