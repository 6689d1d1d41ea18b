"""The pool of grading workers: whatever an answer contains, it costs at most its deadline, in CPU time, and its memory.

Each worker process has its own pipes and no lock, so that a worker that is killed, by its deadline or by anyone,
disturbs no other. It is a plain interpreter that does not import the caller's `__main__`: in a Ray worker that would be
all of Ray, and a script without a main guard would run again. Workers start when they are needed.
"""

import asyncio
import atexit
import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

from openrlhf_math.rewards.outcome import LONGEST_PROBLEM, Grade, Open, RewardConfig, Verdict, begin, conclude
from openrlhf_math.rewards.worker import wall_seconds

# Verdicts are remembered: the samples of one prompt often give the same answer.
MEMORY_OF_VERDICTS = 20_000
START_SECONDS = 60.0
LONGEST_POLL = 10**8  # milliseconds, which are an int of C
# What a worker runs: a module with `serve`, found where this process finds its modules.
MODULE = "openrlhf_math.rewards.worker"
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from {module} import serve; serve(**json.loads(sys.argv[2]))"
)


class GradingPool:
    """Grades responses; what needs symbolic work goes to worker processes, the rest is answered in place.

    `await pool.grade(...)` from any event loop, or `pool.grade_now(...)` from any thread.
    """

    def __init__(self, config: RewardConfig | None = None) -> None:
        self.config = config or RewardConfig()
        self._threads = ThreadPoolExecutor(self.config.workers, thread_name_prefix="grading")
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for _ in range(self.config.workers):
            self._idle.put(_Worker(self.config))
        self._verdicts: OrderedDict[tuple[str, ...], Future[Verdict]] = OrderedDict()
        self._lock = threading.Lock()

    async def grade(self, response: str | bytes | None, gold: str, problem: str | None = None) -> Grade:
        """Grade one response without blocking the event loop. Never raises for any response or gold."""
        started = begin(response, gold, problem, self.config)
        if isinstance(started, Grade):
            return started
        verdict = await asyncio.shield(
            asyncio.wrap_future(self._verdict(started.gold, started.answer, started.problem))
        )
        return conclude(started, verdict, self.config)

    def grade_now(self, response: str | bytes | None, gold: str, problem: str | None = None) -> Grade:
        """As `grade`, for code without an event loop: blocks until the grade is known."""
        started = begin(response, gold, problem, self.config)
        if isinstance(started, Grade):
            return started
        return self.conclude_now(started)

    def fingerprint_now(self, answer: str, problem: str | None = None) -> str | None:
        """A text that differs for two tidied answers of one kind only if they are different; "" if that cannot be said.

        The kind is its first word.

        None if the answer takes more than its time or memory.
        """
        return self._verdict(answer, (problem or "")[-LONGEST_PROBLEM:]).result().same

    def blocking_keys_now(self, answer: str, problem: str | None) -> list[str]:
        """Texts of which a tidied answer shares one with all answers that are the same. Without any, it may be any.

        Empty if the answer takes more than its time or memory.
        """
        return self._verdict("blocking", answer, (problem or "")[-LONGEST_PROBLEM:], "").result().same or []

    def conclude_now(self, begun: Open) -> Grade:
        """The grade of a response that `begin` left open."""
        return conclude(begun, self._verdict(begun.gold, begun.answer, begun.problem).result(), self.config)

    def close(self) -> None:
        """End all worker processes. Items still waiting for one are cancelled."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().stop()

    def _verdict(self, *compared: str) -> Future:
        with self._lock:
            future = self._verdicts.get(compared)
            if future is None or (future.done() and (future.cancelled() or future.result().retryable)):
                future = self._verdicts[compared] = self._threads.submit(self._run, *compared)
            self._verdicts.move_to_end(compared)
            if len(self._verdicts) > MEMORY_OF_VERDICTS:
                self._verdicts.popitem(last=False)
            return future

    def _run(self, *compared: str) -> Verdict:
        worker = self._idle.get()
        try:
            return worker.judge(*compared)
        finally:
            self._idle.put(worker)


class _Worker:
    """One worker process, started on first use and again after each of its deaths."""

    def __init__(self, config: RewardConfig) -> None:
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    def judge(self, *compared: str) -> Verdict:
        """Compare in the worker. A worker killed by someone else is replaced and the item tried once more."""
        begun = time.perf_counter()
        for _ in range(2):
            try:
                verdict = self._attempt(compared, self._config.timeout_seconds)
            except (OSError, RuntimeError) as error:  # no process or thread could be started
                verdict = Verdict(None, f"worker failed: {error}", 0.0, retryable=True)
            if not verdict.retryable:
                return verdict
            if time.perf_counter() - begun > START_SECONDS:
                break
        return verdict

    def stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # of what could not be written to a dead process
                if pipe is not None:
                    pipe.close()

    def _attempt(self, compared: tuple[str, ...], seconds: float) -> Verdict:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._start()
        question = json.dumps([*compared, seconds]).encode() + b"\n"
        reply, overdue = self._ask(process, question, wall_seconds(seconds))
        if reply.endswith(b"\n"):
            return Verdict(*json.loads(reply))
        code = process.wait()
        if overdue:
            return Verdict(None, "wall clock", seconds)
        if code == -signal.SIGVTALRM:
            return Verdict(None, "timeout", seconds)
        return Verdict(None, f"worker died with exit code {code}", 0.0, retryable=True)

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the process and wait until it is ready. Raises OSError if it is not in START_SECONDS."""
        self.stop()
        started = {"memory_bytes": self._config.memory_bytes, "parent": os.getpid()}
        command = [sys.executable, "-c", BOOT.format(module=MODULE), json.dumps(sys.path), json.dumps(started)]
        process = self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        reply, _ = self._ask(process, b"", START_SECONDS)
        if not reply.endswith(b"\n"):
            raise OSError(f"it did not start, exit code {process.wait()}")
        return process

    def _ask(self, process: subprocess.Popen[bytes], question: bytes, seconds: float) -> tuple[bytes, bool]:
        """The worker's next line, cut off if the process ends first, and whether it was killed as its time was up."""
        end, reply = time.monotonic() + seconds, b""
        assert process.stdin is not None and process.stdout is not None  # both are pipes
        try:
            while question and _ready(process.stdin.fileno(), select.POLLOUT, end):
                question = question[os.write(process.stdin.fileno(), question[: select.PIPE_BUF]) :]
            while not question and _ready(process.stdout.fileno(), select.POLLIN, end):
                piece = os.read(process.stdout.fileno(), 1 << 16)
                reply += piece
                if not piece or reply.endswith(b"\n"):
                    return reply, False
        except BrokenPipeError:
            return b"", False
        process.kill()
        return b"", True


def _ready(file: int, event: int, end: float) -> bool:
    """Wait until a pipe can be written or read, or has no other end. False if it cannot by `end`."""
    poll = select.poll()  # not select(), which knows 1,024 files
    poll.register(file, event)
    while (left := end - time.monotonic()) > 0:
        if poll.poll(min(1000 * left + 1, LONGEST_POLL)):
            return True
    return False


def grade(
    response: str | bytes | None, gold: str, *, problem: str | None = None, config: RewardConfig | None = None
) -> Grade:
    r"""Grade one response against its gold answer.

        >>> grade(r"so we get \boxed{\frac{1}{2}}", "0.5").outcome
        'correct'

    Safe whatever the response contains: answers that need symbolic work go to worker processes with a time and a
    memory limit, which are started at the first such answer and shared by all calls with the same `config`.
    `problem` helps where the answer refers to it: options of a multiple choice, a question repeated as its answer.
    """
    return _shared_pool(config or RewardConfig()).grade_now(response, gold, problem)


@lru_cache(maxsize=8)
def _shared_pool(config: RewardConfig) -> GradingPool:
    pool = GradingPool(config)
    atexit.register(pool.close)
    return pool
