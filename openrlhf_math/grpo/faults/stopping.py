"""How a run ends early: on SIGTERM and Ctrl-C with a checkpoint, on a kill with a sentence from another process.

At a signal the step in flight is left or brought to its end, a checkpoint is saved, and the run ends. Other checkpoints
are saved when they are due.
"""

import contextlib
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
        """Raises KeyboardInterrupt if a signal has arrived."""
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


CHILD = "import sys; sys.stderr.write(sys.stdin.read().rpartition(chr(0))[2])"


class LastWords:
    """While the block runs, a small process waits; if this one ends within it, the other prints what was said last.

    first: said as the block begins. always: a line after all words.
    """

    def __init__(self, first: str, always: str) -> None:
        self.first, self.always = first, always

    def __enter__(self) -> "LastWords":
        command = [sys.executable, "-S", "-c", CHILD]
        # In its own session, so that Ctrl-C, which this process outlives, does not end it.
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
        assert self._child.stdin  # a pipe
        self._pipe = self._child.stdin
        self.say(self.first)
        return self

    def __exit__(self, *error: object) -> None:
        self._write("\0")
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()
        self._child.wait()

    def say(self, words: str) -> None:
        """In place of what was said before."""
        self._write(f"\0{words}\n{self.always}\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # it was killed and left no message
            self._pipe.write(text)
            self._pipe.flush()
