"""Where the processes of a run stand: the Python stacks of this one, and of those it started on this machine."""

import faulthandler
import os
import signal
import time
from pathlib import Path

SIGNAL = signal.SIGUSR1
ANSWER_SECONDS = 1.0


def answer_to_signal() -> None:
    """From now on this process and those forked from it write their stacks to stderr on SIGNAL, even while blocked."""
    faulthandler.register(SIGNAL, all_threads=True)


def dump_stacks(path: Path) -> None:
    """Write the stacks of this process and its descendants to a file. A process that is stopped gives none."""
    with path.open("w") as file:
        print(f"process {os.getpid()}, the controller:", file=file, flush=True)
        faulthandler.dump_traceback(file, all_threads=True)
        asked = [process for process in descendants() if answers(process.pid)]
        logs = {os.path.realpath(f"/proc/{process.pid}/fd/2") for process in asked}
        ends = {log: os.path.getsize(log) for log in logs if os.path.isfile(log)}
        for process in asked:
            os.kill(process.pid, SIGNAL)
        time.sleep(ANSWER_SECONDS)
        names = ", ".join(f"{process.pid} {process.name()}" for process in asked)
        print(f"\nits actors and engines on this machine ({names or 'none'}):", file=file)
        for log, end in ends.items():
            with open(log, errors="replace") as stderr:
                stderr.seek(end)
                print(f"\n{log}\n{stderr.read()}", file=file)


def descendants() -> list:
    import psutil

    return psutil.Process().children(recursive=True)


def answers(pid: int) -> bool:
    """Whether the process has a handler: to others the signal is deadly."""
    try:
        with open(f"/proc/{pid}/status") as status:
            caught = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt"))
    except (OSError, StopIteration):
        return False
    return bool(caught >> (SIGNAL - 1) & 1)
