"""Process 1 of the namespaces: it starts the interpreter, reaps orphans, and counts what all of them use together."""

import os
import resource
import select
import signal
from collections.abc import Callable

import libc
import seccomp

EVERY_MS = 200
# Exit codes of process 1.
MEMORY, SIGNAL = 100, 128


def over(config: dict, run: Callable[[dict], None]) -> None:
    """Never returns: it ends with the interpreter, and the kernel then kills whatever is left in the namespaces."""
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install()
    libc.prctl(libc.PR_SET_DUMPABLE, 0)  # others of the same user cannot look into this process
    child = os.fork()
    if child == 0:
        libc.prctl(libc.PR_SET_DUMPABLE, 1)
        run(config)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # process 1 gets no signal from inside that it has no handler for
    events = select.poll()
    events.register(0, 0)  # a hang-up is always reported: there is no client left
    ended = os.pidfd_open(child)
    events.register(ended, select.POLLIN)
    while True:
        ready = dict(events.poll(EVERY_MS))
        if 0 in ready:
            os._exit(0)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else SIGNAL - code)
            if pid == 0:
                break
        if memory_used() > config["memory_bytes"]:
            os._exit(MEMORY)


def memory_used() -> int:
    """Bytes that all processes hold together, and their files. Only the files where /proc could not be mounted."""
    files = os.statvfs("/tmp")
    used = (files.f_blocks - files.f_bfree) * files.f_frsize
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/status") as file:
                lines = [line.split() for line in file if line.startswith(("RssAnon", "RssShmem"))]
        except OSError:  # it has just ended
            continue
        used += sum(int(line[1]) << 10 for line in lines)
    return used


def limit(limits: dict[str, int]) -> None:
    """Soft and hard, by the name of resource.RLIMIT_*; a hard limit that is lower stays."""
    for name, most in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(number, (most, most))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
