"""Kernels for many attempts at once: one for each attempt that runs code, up to a maximum."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from openrlhf_math.concurrency import in_thread, within
from openrlhf_math.tools.isolation import new_kernel
from openrlhf_math.tools.kernel import CannotStart, Kernel, KernelLimits, Result

MOST_KERNELS = 256
BUSY = "[no interpreter became free in time; the code was not run]"


class KernelPool:
    """size: kernels at once; more attempts wait for one. isolation: of `isolation.KINDS`.

    running: calls at once, None for as many as kernels. More than the cores would run into the limit by the clock.
    """

    def __init__(self, limits: KernelLimits, isolation: str, size: int = 16, running: int | None = None) -> None:
        self.limits, self.isolation = limits, isolation
        self.free = asyncio.Semaphore(size)
        self.running = asyncio.Semaphore(running or size)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator["Session"]:
        """What runs the code of one attempt, and is gone with all it started when the block is left."""
        session = Session(self)
        try:
            yield session
        finally:
            session.close()


class Session:
    """The kernel of one attempt, which takes its place in the pool with its first code."""

    def __init__(self, pool: KernelPool) -> None:
        self._pool = pool
        self._kernel: Kernel | None = None

    async def run(self, code: str, seconds: float = float("inf")) -> Result:
        """seconds: at the most, with the wait for a place. Cancelling it ends the kernel.

        If no kernel can be started, the result says so, with the status "died".
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        if self._kernel is None:
            if not await _taken(self._pool.free, seconds):
                return Result(BUSY, "time", False)
            self._kernel = new_kernel(self._pool.limits, self._pool.isolation)
        if not await _taken(self._pool.running, deadline - loop.time()):
            return Result(BUSY, "time", False)
        try:
            return await in_thread(self._kernel.run, code, deadline - loop.time())
        except CannotStart as error:
            return Result(f"[no interpreter could be started: {error}]", "died", False)
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._pool.running.release()

    def close(self) -> None:
        """Ends the kernel in a thread: its sandbox takes some milliseconds."""
        kernel, self._kernel = self._kernel, None
        if kernel is None:
            return
        self._pool.free.release()
        threading.Thread(target=kernel.close, name="closing a kernel").start()


def places_for(memory_mb: int) -> int:
    """Kernels that half of this machine's memory, or of what its control group grants, has room for."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # another system, or no limit
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(max(memory // 2 // (memory_mb << 20), 1), MOST_KERNELS)


def running_for() -> int:
    """Calls at once: one for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def _taken(places: asyncio.Semaphore, seconds: float) -> bool:
    """Whether one of the places became free in time, and is taken."""
    waiting = asyncio.ensure_future(places.acquire())
    try:
        await within(seconds, waiting)
        return True
    except TimeoutError:
        return False
    except asyncio.CancelledError:
        if waiting.done() and not waiting.cancelled():
            places.release()
        raise
