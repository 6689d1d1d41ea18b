"""A lock between a process and those it starts that leaves nothing in /dev/shm, however they end."""

import os
import select
import threading
import time
import weakref
from multiprocessing import context, reduction


class NamelessLock:
    """As multiprocessing's `RLock`, whose one token lies in an eventfd instead of a semaphore with a name.

    A new interpreter finds a semaphore by its name, so that the name stays until multiprocessing's tracker takes it
    away. Ray kills that tracker together with its actor. An eventfd is handed down and ends with its last holder.
    """

    def __init__(self) -> None:
        self._hold(os.eventfd(1, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC))

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Whether the lock was had, within `timeout` seconds where that is given."""
        me = threading.get_ident()
        if self._owner != me:
            ends = None if timeout is None else time.monotonic() + timeout
            while not self._take():
                left = None if ends is None else ends - time.monotonic()
                if not block or (left is not None and left <= 0):
                    return False
                self._freed.poll(left if left is None else 1000 * left)
            self._owner = me
        self._depth += 1
        return True

    def release(self) -> None:
        """Raises RuntimeError in a thread that does not hold it."""
        if self._owner != threading.get_ident():
            raise RuntimeError("a lock can be released only by the thread that holds it")
        self._depth -= 1
        if not self._depth:
            self._owner = None
            os.eventfd_write(self._event, 1)

    def _take(self) -> bool:
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return False
        return True

    def _hold(self, event: int) -> None:
        self._event, self._owner, self._depth = event, None, 0
        self._freed = select.poll()
        self._freed.register(event, select.POLLIN)
        weakref.finalize(self, os.close, event)

    def __getstate__(self):
        context.assert_spawning(self)
        return reduction.DupFd(self._event)

    def __setstate__(self, event) -> None:
        self._hold(event.detach())
