"""The lock of the grading pools: between processes, reentrant, without a name."""

import os
import threading
import time

import pytest

from openrlhf_math.rewards.light_spawn import LightSpawnContext

pytestmark = pytest.mark.skipif(not hasattr(os, "eventfd"), reason="only Linux has eventfd")


@pytest.fixture
def lock():
    return LightSpawnContext().RLock()


def in_a_thread(call):
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join(30)
    return found[0]


def test_its_holder_has_it_again_and_no_one_else(lock):
    assert lock.acquire() and lock.acquire(block=False)
    assert not in_a_thread(lambda: lock.acquire(block=False))
    lock.release()
    assert not in_a_thread(lambda: lock.acquire(timeout=0.01))
    lock.release()
    assert in_a_thread(lambda: lock.acquire(timeout=0.01))


def test_only_its_holder_may_release_it(lock):
    lock.acquire()
    with pytest.raises(RuntimeError, match="holds it"):
        in_a_thread_raises(lock.release)
    lock.release()
    with pytest.raises(RuntimeError, match="holds it"):
        lock.release()


def in_a_thread_raises(call):
    def caught():
        try:
            call()
        except RuntimeError as error:
            return error

    raise in_a_thread(caught)


def count(lock, counter, times):
    for _ in range(times):
        lock.acquire(timeout=30)
        value = int.from_bytes(counter.read(8), "little")
        counter.seek(0)
        counter.write((value + 1).to_bytes(8, "little"))
        counter.seek(0)
        lock.release()


def counting(lock, path, times):
    with open(path, "r+b", buffering=0) as counter:
        count(lock, counter, times)


def test_two_processes_take_turns(lock, tmp_path):
    """Without a lock that holds, one reads what the other is about to write over."""
    path = tmp_path / "counter"
    path.write_bytes(bytes(8))
    context = LightSpawnContext()
    others = [context.Process(target=counting, args=(lock, path, 2000)) for _ in range(2)]
    for other in others:
        other.start()
    counting(lock, path, 2000)
    for other in others:
        other.join(60)
        assert other.exitcode == 0
    assert int.from_bytes(path.read_bytes(), "little") == 6000


def test_it_is_closed_when_no_one_has_it():
    before = len(os.listdir("/proc/self/fd"))
    LightSpawnContext().RLock()
    assert len(os.listdir("/proc/self/fd")) == before


def test_waiting_ends_when_it_is_free(lock):
    lock.acquire()
    began = time.monotonic()
    waiting = threading.Thread(target=lambda: lock.acquire(timeout=30))
    waiting.start()
    time.sleep(0.2)
    lock.release()
    waiting.join(30)
    assert not waiting.is_alive() and time.monotonic() - began < 10
