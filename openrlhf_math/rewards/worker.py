"""What runs inside a worker process: its limits, its end, and one comparison after the other.

A worker cannot outlive its trainer. Between items it sees that its parent is another one; during an item the kernel's
timer ends it soon after the deadline, also where the interpreter is deep in one long multiplication and would
not notice anything.
"""

import os
import resource
import signal
import sys
import threading
import time

# The pool kills at the deadline. If it is gone, the kernel does so this much later.
GRACE_SECONDS = 1.0
WATCH_SECONDS = 0.5
# A "no" that took longer may be a failed allocation that math-verify or sympy caught and passed over.
SUSPICIOUS_SECONDS = 0.05


def start(memory_bytes: int, parent: int) -> None:
    """Set up a new worker: memory limit, watch on the parent process, math-verify imported."""
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    os.nice(5)  # grading must not slow the trainer's own threads
    from openrlhf_math.rewards.symbolic import equivalent

    equivalent("x+1", "y")  # what sympy builds at its first use is not to count against the first item


def judge(gold: str, answer: str, timeout_seconds: float) -> tuple[bool | None, str, float]:
    """Compare; returns (verdict, why there is none, seconds)."""
    from openrlhf_math.rewards.symbolic import equivalent

    begin = time.perf_counter()
    verdict, reason = None, ""
    signal.setitimer(signal.ITIMER_REAL, timeout_seconds + GRACE_SECONDS)
    try:
        verdict = equivalent(gold, answer)
        if not verdict and time.perf_counter() - begin > SUSPICIOUS_SECONDS and _runs_out_of_memory(gold, answer):
            verdict, reason = None, "memory"
    except MemoryError:
        reason = "memory"
    except Exception as error:
        reason = f"error: {type(error).__name__}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return verdict, reason, time.perf_counter() - begin


def _runs_out_of_memory(gold: str, answer: str) -> bool:
    """Compare again, with an eye on every exception, also on those that are caught on the way."""
    from openrlhf_math.rewards.symbolic import equivalent

    raised = []

    def trace(frame, event, argument):
        frame.f_trace_lines = False
        if event == "exception" and issubclass(argument[0], MemoryError):
            raised.append(True)
        return trace

    sys.settrace(trace)
    try:
        equivalent(gold, answer)
    finally:
        sys.settrace(None)
    return bool(raised)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(0)
