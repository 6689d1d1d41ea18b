"""One kernel: a Python process for one attempt that runs the model's blocks of code.

Everything it prints is hostile: it is cut to its limit, and only a line with the id of this very request ends a call.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openrlhf_math.errors import BadValue

SANDBOX = Path(__file__).parent / "sandbox"
START_SECONDS = 60.0  # for an interpreter to come up, on a machine that has much else to do
END_SECONDS = 10.0
LONGEST_CODE = 1 << 16
LONGEST_REPLY = 1 << 12
CHUNK = 1 << 16
# Exit status of the sandbox, see sandbox/watch.py.
MEMORY, SIGNAL = 100, 128


class CannotStart(Exception):
    """No kernel can be started; its text says why, as a part of a sentence."""


# The least that each limit can be.
LEAST = {"seconds": 0.1, "memory_mb": 64, "processes": 4, "output_chars": 64, "disk_mb": 1, "open_files": 128}


@dataclass(frozen=True, slots=True)
class KernelLimits:
    """What the code of an attempt may use. Raises BadValue for a limit that leaves no room to run.

    seconds       CPU time of one call in a process; by the wall clock four times as much, unless wall_seconds is given
    memory_mb     MiB of address space of a process, and of memory of all processes with their files
    processes     processes and threads at once, two of which are taken
    output_chars  of what a call prints, in bytes; of more the beginning and the end are kept
    disk_mb       MiB of files, which are held in memory
    """

    seconds: float = 10.0
    wall_seconds: float | None = None
    memory_mb: int = 1024
    processes: int = 32
    output_chars: int = 8192
    disk_mb: int = 64
    open_files: int = 256

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if not least <= getattr(self, name) < float("inf"):
                raise BadValue(name, getattr(self, name), f"{least} or more")

    @property
    def wall(self) -> float:
        return self.wall_seconds or 4 * self.seconds


@dataclass(frozen=True, slots=True)
class Result:
    """What a call gave.

    output  what it printed, and after it what the model must know: that it was cut, ended, or was restarted
    status  "ok"; "error": it raised; "time", "memory": beyond that limit; "died": the interpreter ended in another way
    fresh   whether it ran without the variables of earlier calls, because the interpreter of those is gone
    """

    output: str
    status: str
    fresh: bool


class Kernel:
    """Its process starts with the first call, and again after each death. From any thread, one call at a time.

    isolation: of `isolation.KINDS`. python: the interpreter, this one's if None.
    """

    def __init__(self, limits: KernelLimits, isolation: str, tree: Sequence[tuple[str, str | None]] = ()) -> None:
        self._limits, self._isolation, self._tree = limits, isolation, list(tree)
        self._process: subprocess.Popen[bytes] | None = None
        self._reply = -1
        self._lost = self._closed = False
        self._lock = threading.Lock()

    def run(self, code: str, seconds: float = float("inf")) -> Result:
        """seconds: by the wall clock at the most, with the start. Raises CannotStart."""
        if len(code) > LONGEST_CODE:
            return Result(f"[the code has {len(code)} characters, at most {LONGEST_CODE} are run]", "error", False)
        deadline = time.monotonic() + seconds
        if self._process is not None and self._process.poll() is not None:
            self._end()
        fresh = self._lost
        if self._process is None:
            try:
                self._start(min(deadline, time.monotonic() + START_SECONDS))
            except TimeoutError:
                self._end()
                if seconds < START_SECONDS:
                    return Result(_notes("", ["no time was left for the interpreter to start"]), "time", fresh)
                raise CannotStart(f"its interpreter did not start within {START_SECONDS:.0f} s") from None
        self._lost = False
        output, status = self._call(code, min(deadline, time.monotonic() + self._limits.wall))
        notes = []
        if status not in ("ok", "error"):
            status, note = self._death(status)
            notes.append(f"{note}; the next code starts without the variables defined so far")
        if fresh:
            notes.append("the interpreter was restarted before this code, without the variables of earlier code")
        return Result(_notes(output.text(), notes), status, fresh)

    def close(self) -> None:
        """End it with everything it started. A call that is under way ends as one that died."""
        self._closed = True
        self._end()

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, deadline: float) -> None:
        limits = self._limits
        self._reply, theirs = os.pipe()
        config = {
            "isolation": self._isolation,
            "reply": theirs,
            "python": [sys.executable, "-I", "-B", "-u", "-X", "utf8"],
            "tree": self._tree,
            "memory_bytes": limits.memory_mb << 20,
            "disk_bytes": limits.disk_mb << 20,
            "file_bytes": limits.disk_mb << 20,
            "processes": limits.processes,
            "open_files": limits.open_files,
        }
        command = [sys.executable, "-I", "-S", "-B", str(SANDBOX), json.dumps(config)]
        try:
            with self._lock:
                if self._closed:
                    raise CannotStart("it is closed")
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={},
                    cwd="/",
                    pass_fds=[theirs],
                    start_new_session=True,
                    bufsize=0,
                )
        except OSError as error:
            raise CannotStart(str(error)) from None
        finally:
            os.close(theirs)
        pipes = self._pipes()
        if pipes is None:
            raise CannotStart("it is closed")
        for descriptor in (*pipes, self._reply):
            os.set_blocking(descriptor, False)
        self._line = b""
        for reply in self._replies(deadline, _Output(0)):
            if "ready" in reply:
                return
            if "failed" in reply:
                raise CannotStart(str(reply["failed"]))
        raise CannotStart("its interpreter ended at its start")

    def _call(self, code: str, deadline: float) -> tuple["_Output", str]:
        """What it prints, and how it ended: "ok", "error", "time" or "died"."""
        self._discard()
        name = uuid.uuid4().hex
        request = json.dumps({"id": name, "code": code, "cpu": self._limits.seconds}).encode() + b"\n"
        output = _Output(self._limits.output_chars)
        try:
            for reply in self._replies(deadline, output, request):
                if reply.get("id") == name:
                    return output, "ok" if reply.get("ok") is True else "error"
        except TimeoutError:
            return output, "time"
        return output, "died"

    def _replies(self, deadline: float, output: "_Output", request: bytes = b"") -> Iterator[dict]:
        """Every reply that comes until the process ends. All it printed before one is in `output`.

        Raises TimeoutError at the deadline, a time of the monotonic clock.
        """
        pipes, reply = self._pipes(), self._reply
        if pipes is None:
            return
        stdin, stdout = pipes
        events = select.poll()
        events.register(stdout, select.POLLIN)
        events.register(reply, select.POLLIN)
        if request:
            events.register(stdin, select.POLLOUT)
        open_ends = {stdout, reply}
        while open_ends:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            ready = dict(events.poll(min(left, 1.0) * 1000))
            if self._closed:
                return
            if stdin in ready:
                try:
                    request = request[os.write(stdin, request[:CHUNK]) :]
                except BlockingIOError:
                    pass
                except OSError:
                    request = b""
                if not request:
                    events.unregister(stdin)
            if stdout in ready and not self._read(stdout, output.add):
                open_ends.discard(stdout)
                events.unregister(stdout)
            if reply in ready:
                lines: list[bytes] = []
                if not self._read(reply, lines.append):
                    open_ends.discard(reply)
                    events.unregister(reply)
                *complete, self._line = (self._line + b"".join(lines)).split(b"\n")
                self._line = self._line[:LONGEST_REPLY]
                for line in complete:
                    if isinstance(reply_object := _json(line), dict):
                        self._drain(stdout, output)
                        yield reply_object
                if reply not in open_ends:  # no process can answer any more
                    self._drain(stdout, output)
                    return

    @staticmethod
    def _read(descriptor: int, take: Callable[[bytes], None]) -> bool:
        """Whether the other end is open."""
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return True
        take(data)
        return bool(data)

    def _drain(self, descriptor: int, output: "_Output") -> None:
        """What is in the pipe: a pipe holds 64 KiB, so a program that still prints cannot hold us here."""
        for _ in range(17):
            try:
                data = os.read(descriptor, 1 << 12)
            except OSError:
                return
            if not data:
                return
            output.add(data)

    def _discard(self) -> None:
        """What was printed between two calls belongs to none of them."""
        if pipes := self._pipes():
            self._drain(pipes[1], _Output(0))

    def _pipes(self) -> tuple[int, int] | None:
        """The descriptors of its standard input and output; None if another thread has closed it."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            return process.stdin.fileno(), process.stdout.fileno()
        except ValueError:  # closed
            return None

    def _death(self, status: str) -> tuple[str, str]:
        """End what is left. Returns the status, and what to say of it."""
        if status == "time":
            self._end()
            return "time", f"ended after {self._limits.wall:g} s"
        code = self._end(wait_first=True)
        if code == MEMORY:
            return "memory", f"ended, it used more than {self._limits.memory_mb} MiB"
        if code == SIGNAL + signal.SIGXCPU:
            return "time", f"ended after {self._limits.seconds:g} s of CPU time"
        why = f"by signal {code - SIGNAL}" if code > SIGNAL else f"with exit code {code}"
        return "died", f"the interpreter ended {why}"

    def _end(self, wait_first: bool = False) -> int:
        """Close the input, at which the sandbox ends everything, and wait for it. Returns its exit status.

        wait_first: it ends by itself, and its status is wanted.
        """
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return 0
            self._lost = True
            if wait_first:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1.0)
            if process.stdin:
                process.stdin.close()
            try:
                code = process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
            if process.stdout:
                process.stdout.close()
            os.close(self._reply)
            return code


class _Output:
    """The beginning and the end of what is printed."""

    def __init__(self, most: int) -> None:
        self._head, self._tail, self._all = b"", b"", 0
        self._room = most - most // 4, most // 4

    def add(self, data: bytes) -> None:
        self._all += len(data)
        room = self._room[0] - len(self._head)
        self._head += data[:room]
        if rest := data[room:]:
            self._tail = (self._tail + rest)[-self._room[1] :] if self._room[1] else b""

    def text(self) -> str:
        left_out = self._all - len(self._head) - len(self._tail)
        between = f"\n[... {left_out} bytes are left out ...]\n".encode() if left_out else b""
        return (self._head + between + self._tail).decode("utf-8", "replace")


def _notes(output: str, notes: list[str]) -> str:
    lines = [output.rstrip("\n"), *(f"[{note}]" for note in notes)]
    return "\n".join(line for line in lines if line)


def _json(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
