"""What runs inside a worker process: its limits, its end, and one comparison after the other.

The deadline of an item is CPU time of the worker, so that load on the machine does not change a reward. Past it a
signal ends the comparison and the worker is free for the next one. Where the interpreter is deep in one long
multiplication and does not notice, a second timer of the kernel ends the process a little later.

A worker cannot outlive its trainer: between items it sees that its parent is another one, and during an item the
kernel's timers end it.
"""

import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

# CPU time between the deadline, which a comparison may notice, and the end of the process, which it cannot prevent.
GRACE_SECONDS = 0.2
# Wall clock for an item with a deadline of one second of CPU time. Only a machine under extreme load gets there.
WALL_FACTOR, WALL_SECONDS = 10.0, 10.0
WATCH_SECONDS = 0.5


def serve(memory_bytes: int, parent: int) -> None:
    """What a worker process does: it answers each JSON line of stdin with one on stdout, until stdin ends.

    A line is [gold, answer, problem, seconds], for `judge`, [answer, problem, seconds], for `describe`, or
    ["blocking", answer, problem, "", seconds], for `block`. A first line says that the worker is ready.

    memory_bytes: of its address space. parent: the process that it ends with.
    """
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not a reply
    _set_up(memory_bytes, parent)
    found: tuple | None = None
    while True:
        replies.write(json.dumps(found).encode() + b"\n")
        replies.flush()
        task = json.loads(sys.stdin.buffer.readline() or "null")
        if task is None:
            return
        if len(task) == 5:
            found = block(task[1], task[2], task[4])
        else:
            found = judge(*task) if len(task) == 4 else describe(*task)


def _set_up(memory_bytes: int, parent: int) -> None:
    """Memory limit, watch on the parent process, the comparison imported."""
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGPROF, _past_the_deadline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    for last in (signal.SIGVTALRM, signal.SIGALRM):
        signal.signal(last, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    from openrlhf_math.rewards.same import equivalent

    equivalent("x+1", "y")  # what is built at its first use is not to count against the first item


class DeadlinePassed(BaseException):
    """The CPU time of an item is used up. No `except Exception` of a library on the way may catch it."""


def wall_seconds(timeout_seconds: float) -> float:
    """The wall clock that goes with a deadline in CPU time."""
    return WALL_FACTOR * timeout_seconds + WALL_SECONDS


def judge(gold: str, answer: str, problem: str, timeout_seconds: float) -> tuple[bool | None, str, float]:
    """Compare; returns (verdict, why there is none, seconds of CPU time)."""
    from openrlhf_math.rewards import same

    return _within(timeout_seconds, lambda: same.equivalent(gold, answer, problem))


def describe(answer: str, problem: str, timeout_seconds: float) -> tuple[str | None, str, float]:
    """The answer's fingerprint; returns (it, why there is none, seconds of CPU time)."""
    from openrlhf_math.rewards import fingerprint

    return _within(timeout_seconds, lambda: fingerprint.fingerprint(answer, problem))


def block(answer: str, problem: str, timeout_seconds: float) -> tuple[list[str] | None, str, float]:
    """The answer's blocking keys; returns (them, why there are none, seconds of CPU time)."""
    from openrlhf_math.rewards import fingerprint

    return _within(timeout_seconds, lambda: fingerprint.blocking_keys(answer, problem))


Found = TypeVar("Found")


def _within(timeout_seconds: float, task: Callable[[], Found]) -> tuple[Found | None, str, float]:
    begin = time.process_time()
    found: Found | None = None
    reason = ""
    try:
        _set_timers(timeout_seconds)
        found = task()
        _stop_timers()
    except MemoryError:
        reason = "memory"
    except DeadlinePassed:
        found, reason = None, "timeout"
    except Exception as error:
        reason = f"error: {type(error).__name__}"
    _stop_timers()
    return found, reason, time.process_time() - begin


def _set_timers(timeout_seconds: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, wall_seconds(timeout_seconds) + GRACE_SECONDS)
    signal.setitimer(signal.ITIMER_VIRTUAL, timeout_seconds + GRACE_SECONDS)
    signal.setitimer(signal.ITIMER_PROF, timeout_seconds)


def _stop_timers() -> None:
    for timer in (signal.ITIMER_PROF, signal.ITIMER_VIRTUAL, signal.ITIMER_REAL):
        signal.setitimer(timer, 0)


def _past_the_deadline(number: int, frame: FrameType | None) -> None:
    raise DeadlinePassed


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(0)
