"""A limit of time for every phase of a run, and the settings of all faults that a run survives.

What hangs ends, with the phase, what it waited for, and the stacks.
"""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, MappingProxyType, TracebackType
from typing import TYPE_CHECKING

from openrlhf_math.errors import UserError

if TYPE_CHECKING:
    import psutil

STACKS_SIGNAL = signal.SIGUSR1
ANSWER_SECONDS = 1.0


def answer_to_signal() -> None:
    """From now on this process and those forked from it write their stacks to stderr on STACKS_SIGNAL, even while
    blocked."""
    faulthandler.register(STACKS_SIGNAL, all_threads=True)


def dump_stacks(path: Path) -> None:
    """Write the stacks of this process and its descendants to a file. A process that is stopped gives none."""
    with path.open("w") as file:
        print(f"process {os.getpid()}, the controller:", file=file, flush=True)
        faulthandler.dump_traceback(file, all_threads=True)
        asked = [process for process in descendants() if answers(process.pid)]
        logs = {os.path.realpath(f"/proc/{process.pid}/fd/2") for process in asked}
        ends = {log: os.path.getsize(log) for log in logs if os.path.isfile(log)}
        for process in asked:
            os.kill(process.pid, STACKS_SIGNAL)
        time.sleep(ANSWER_SECONDS)
        names = ", ".join(f"{process.pid} {process.name()}" for process in asked)
        print(f"\nits actors and engines on this machine ({names or 'none'}):", file=file)
        for log, end in ends.items():
            with open(log, errors="replace") as stderr:
                stderr.seek(end)
                print(f"\n{log}\n{stderr.read()}", file=file)


def descendants() -> "list[psutil.Process]":
    import psutil

    return psutil.Process().children(recursive=True)


def answers(pid: int) -> bool:
    """Whether the process has a handler: to others the signal is deadly."""
    try:
        with open(f"/proc/{pid}/status") as status:
            caught = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt"))
    except (OSError, StopIteration):
        return False
    return bool(caught >> (STACKS_SIGNAL - 1) & 1)


SIGNAL = signal.SIGUSR2  # SIGALRM and SIGINT have their users
POLL_SECONDS = 0.5
LEAVE_SECONDS = 60.0
CLUSTER_SECONDS, MISSED = 2.0, 3  # Ray ends a driver without a word 12 s after its raylet, 60 s after its head


class Overdue(RuntimeError):
    """A phase that took longer than its limit."""


class Watchdog:
    """Interrupts the main thread, which made it, in a phase that takes too long, and ends a process without a cluster.

    limits: seconds by phase. folder: where the stacks are written. The clock starts when a phase begins, and again when
    one within it ends. lost_connection: says what is wrong if the cluster is gone; then no wait for Ray comes back, and
    this process ends without. say: shows the cause where the main thread no longer can. Use it as a context: with its
    end the watch ends.
    """

    def __init__(
        self,
        limits: Mapping[str, float],
        folder: Path,
        lost_connection: Callable[[], str | None] = lambda: None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.limits, self.folder = limits, folder
        self.lost_connection, self.say = lost_connection, say
        self.verdict: str | None = None
        self._phases: list[tuple[str, Callable[[], str]]] = []
        self._since = time.monotonic()
        self._over = threading.Event()

    def begin(self, phase: str, waits_for: str) -> None:
        """The outermost phase from now on."""
        self._phases[:1] = [(phase, lambda: waits_for)]
        self._since = time.monotonic()

    @contextmanager
    def phase(self, name: str, waits_for: str | Callable[[], str]) -> Iterator[None]:
        """A phase within the outermost. waits_for: what the error says it was waiting for."""
        self._phases.append((name, waits_for if callable(waits_for) else lambda: waits_for))
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._phases.pop()
            self._since = time.monotonic()

    def __enter__(self) -> "Watchdog":
        self._before = signal.signal(SIGNAL, self._interrupt)
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        signal.signal(SIGNAL, self._before)
        if self.verdict and error:  # whatever the interrupted code made of it
            raise Overdue(self.verdict) from None

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        raise Overdue(self.verdict)

    def _watch(self) -> None:
        missed, asked = 0, time.monotonic()
        while not self._over.wait(POLL_SECONDS):
            self.verdict = self._overdue()
            if self.verdict:
                os.kill(os.getpid(), SIGNAL)
                if not self._over.wait(LEAVE_SECONDS):
                    self._end(self.verdict)
                return
            if time.monotonic() - asked > CLUSTER_SECONDS:
                lost_connection = self.lost_connection()
                missed, asked = (missed + 1 if lost_connection else 0), time.monotonic()
                if lost_connection and missed == MISSED:
                    self.verdict = lost_connection
                    self._end(lost_connection)

    def _overdue(self) -> str | None:
        name, waits_for = self._phases[-1] if self._phases else ("", str)
        limit = self.limits.get(name)
        if limit is None or time.monotonic() - self._since <= limit:
            return None
        stacks = self.folder / "stacks.txt"
        verdict = (
            f"phase {name}: not done within {limit:g} s (--math.phase_timeout {name}={limit:g}); it waited for "
            f"{waits_for()}. Where its processes stood is in {stacks}"
        )
        dump_stacks(stacks)
        return verdict

    def _end(self, verdict: str) -> None:
        """Without the main thread, which waits for what will not come. Ray's processes end with this one."""
        self.say(verdict)
        os._exit(1)


# Seconds that a phase may take. Long: a phase that ends on its own must not be cut off.
PHASE_SECONDS = MappingProxyType(
    {"start": 3600.0, "rollout": 7200.0, "train": 7200.0, "sync": 1800.0, "save": 3600.0, "evaluate": 14400.0}
)


@dataclass(frozen=True)
class FaultSettings:
    """max_bad_steps: skipped steps in a row that end the run. engine_restarts: how many in a run do not.

    phase_seconds: limit of each phase of PHASE_SECONDS.
    """

    max_bad_steps: int = 3
    engine_restarts: int = 3
    phase_seconds: Mapping[str, float] = field(default_factory=lambda: dict(PHASE_SECONDS))


def faults(ours: dict) -> FaultSettings:
    """ours: --math.*. Raises UserError for values that cannot work."""
    if ours["math.max_bad_steps"] < 1:
        raise UserError(f"--math.max_bad_steps {ours['math.max_bad_steps']}: give 1 or more; with 1 the first ends it")
    if ours["math.engine_restarts"] < 0:
        raise UserError(f"--math.engine_restarts {ours['math.engine_restarts']}: give 0 (never) or more")
    text = ours["math.phase_timeout"]
    limits = dict(PHASE_SECONDS) | (parse_limits("--math.phase_timeout", text) if text else {})
    return FaultSettings(ours["math.max_bad_steps"], ours["math.engine_restarts"], limits)


def parse_limits(flag: str, text: str) -> dict[str, float]:
    """Seconds by phase from `PHASE=SECONDS,PHASE=SECONDS,...`. Raises UserError naming `flag` for another text."""
    limits = {}
    for part in text.split(","):
        phase, _, value = (piece.strip() for piece in part.partition("="))
        if phase not in PHASE_SECONDS:
            raise UserError(f"{flag} {text}: '{part}' names no phase; they are {', '.join(PHASE_SECONDS)}")
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not seconds > 0:
            raise UserError(f"{flag} {text}: '{part}' is not PHASE=SECONDS, as in rollout=3600,train=1800")
        limits[phase] = seconds
    return limits
