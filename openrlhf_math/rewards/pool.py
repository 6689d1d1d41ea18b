"""The pool of grading workers: whatever an answer contains, it costs at most its deadline, in CPU time, and its memory.

Each worker process is a pebble pool of one, so that a worker that is killed, by its deadline or by anyone, can
spoil no lock or pipe but its own. Workers start when they are needed.
"""

import asyncio
import os
import queue
import signal
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as DeadlinePassed

from openrlhf_math.rewards.config import RewardConfig
from openrlhf_math.rewards.outcome import LONGEST_PROBLEM, Grade, Verdict, begin, conclude

# Verdicts are remembered: the samples of one prompt often give the same answer.
MEMORY_OF_VERDICTS = 20_000
POLL_SECONDS = 0.1
START_SECONDS = 60.0


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
        return conclude(started, self._verdict(started.gold, started.answer, started.problem).result(), self.config)

    def fingerprint_now(self, answer: str, problem: str | None = None) -> str | None:
        """A text that differs for two tidied answers only if they are different; "" where that cannot be said.

        None if the answer takes more than its time or memory.
        """
        return self._verdict(answer, (problem or "")[-LONGEST_PROBLEM:]).result().same

    def close(self) -> None:
        """End all worker processes. Items still waiting for one are cancelled."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().stop()

    def _verdict(self, *compared: str) -> Future:
        with self._lock:
            future = self._verdicts.get(compared)
            if future is None or (future.done() and (future.cancelled() or future.result().passing)):
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
        self._pool = None

    def judge(self, *compared: str) -> Verdict:
        """Compare in the worker. A worker killed by someone else is replaced and the item tried once more."""
        begun = time.perf_counter()
        for _ in range(2):
            try:
                verdict = self._attempt(compared, self._config.timeout_seconds)
            except (OSError, RuntimeError) as error:  # no process could be started, or the pool broke that moment
                verdict = Verdict(None, f"worker failed: {error}", 0.0, passing=True)
            if not verdict.passing:
                return verdict
            if time.perf_counter() - begun > START_SECONDS:
                break
        return verdict

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def _attempt(self, compared: tuple[str, ...], seconds: float) -> Verdict:
        from pebble import ProcessExpired

        from openrlhf_math.rewards import worker

        task = worker.judge if len(compared) == 3 else worker.describe
        if self._pool is None or not self._pool.active:
            self.stop()
            self._pool = self._new_pool()
        future = self._pool.schedule(task, args=(*compared, seconds), timeout=worker.wall_seconds(seconds))
        given_up = time.monotonic() + START_SECONDS + worker.wall_seconds(seconds)
        while not wait([future], timeout=POLL_SECONDS).done:
            # pebble gives up a pool whose worker died while idle, and with it this item, without a word
            if not self._pool.active or time.monotonic() > given_up:
                self.stop()
                return Verdict(None, "worker died", 0.0, passing=True)
        try:
            return Verdict(*future.result())
        except DeadlinePassed:
            return Verdict(None, "wall clock", seconds)
        except ProcessExpired as error:
            if error.exitcode == -signal.SIGVTALRM:
                return Verdict(None, "timeout", seconds)
            return Verdict(None, f"worker died with exit code {error.exitcode}", 0.0, passing=True)

    def _new_pool(self):
        from pebble import ProcessPool

        from openrlhf_math.rewards.light_spawn import LightSpawnContext
        from openrlhf_math.rewards.worker import start

        return ProcessPool(
            max_workers=1,
            initializer=start,
            initargs=(self._config.memory_bytes, os.getpid()),
            context=LightSpawnContext(),
        )
