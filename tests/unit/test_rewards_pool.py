r"""The pool holds its deadline and its memory limit, loses nothing but the item at fault, and leaves no processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import slow_judge
from slow_judge import MEMORY, POWER, SPIN

from openrlhf_math.rewards import GradingPool, RewardConfig, grade
from openrlhf_math.rewards import pool as pool_module

ROOT_GOLD, ROOT = r"2\sqrt{3}", r"\boxed{\sqrt{12}}"


@pytest.fixture(autouse=True)
def slow(monkeypatch):
    monkeypatch.setattr(pool_module, "MODULE", "slow_judge")


def workers(parent: int) -> set[int]:
    """The processes of all grading workers that `parent` started."""
    listed = subprocess.run(["ps", "-wweo", "pid=,ppid=,args="], capture_output=True, text=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return {int(row[0]) for row in rows if int(row[1]) == parent and "import serve" in row[2]}


def wait_until(condition, seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.05)
    return condition()


def alive(pid: int) -> bool:
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def pool():
    pool = GradingPool(RewardConfig(workers=1, timeout_seconds=0.7))
    yield pool
    pool.close()


def test_no_worker_starts_before_it_is_needed(pool):
    before = workers(os.getpid())
    assert pool.grade_now(r"\boxed{72}", "72").outcome == "correct"
    assert workers(os.getpid()) == before
    assert pool.grade_now(ROOT, ROOT_GOLD).outcome == "correct"
    assert len(workers(os.getpid()) - before) == 1


def test_only_the_faulty_item_is_lost(pool):
    async def many():
        items = [pool.grade(rf"\boxed{{\sqrt{{{12 * n * n}}}}}", rf"{2 * n}\sqrt{{3}}") for n in range(2, 8)]
        items.insert(3, pool.grade(POWER, "x+y"))
        return await asyncio.gather(*items)

    grades = asyncio.run(many())
    outcomes = [one.outcome for one in grades]
    assert outcomes == ["correct"] * 3 + ["ungraded"] + ["correct"] * 3
    assert (grades[3].reason, grades[3].reward) == ("timeout", 0.0)
    assert max(one.seconds for one in grades) < 1.0


def test_memory(pool):
    small = GradingPool(RewardConfig(workers=1, timeout_seconds=20, memory_bytes=256 << 20))
    try:
        assert small.grade_now(MEMORY, "x+y").reason == "memory"
        assert small.grade_now(ROOT, ROOT_GOLD).outcome == "correct"
    finally:
        small.close()


def test_killed_worker_costs_nothing(pool):
    before = workers(os.getpid())
    pool.grade_now(ROOT, ROOT_GOLD)
    for worker in workers(os.getpid()) - before:
        os.kill(worker, signal.SIGKILL)
    assert pool.grade_now(r"\boxed{\sqrt{20}}", r"2\sqrt{5}").outcome == "correct"  # at once, before anyone noticed
    for worker in workers(os.getpid()) - before:
        os.kill(worker, signal.SIGKILL)
    time.sleep(0.5)
    assert pool.grade_now(r"\boxed{\sqrt{28}}", r"2\sqrt{7}").outcome == "correct"  # after the pool noticed


def test_event_loop_stays_free(pool):
    async def ticks_during_a_timeout():
        grading, ticks = asyncio.ensure_future(pool.grade(SPIN, "x+y")), 0
        while not grading.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    assert asyncio.run(ticks_during_a_timeout()) > 30


def test_same_answer_is_compared_once(pool):
    async def twenty():
        return await asyncio.gather(*(pool.grade(SPIN, "x+y") for _ in range(20)))

    pool.grade_now(ROOT, ROOT_GOLD)  # the worker is up
    begun = time.monotonic()
    assert {one.reason for one in asyncio.run(twenty())} == {"timeout"}
    assert time.monotonic() - begun < 10


def test_from_a_thread(pool):
    found = []
    thread = threading.Thread(target=lambda: found.append(pool.grade_now(ROOT, ROOT_GOLD)))
    thread.start()
    thread.join(30)
    assert found[0].outcome == "correct"


def test_closing_ends_the_workers():
    before = workers(os.getpid())
    pool = GradingPool(RewardConfig(workers=1))
    pool.grade_now(ROOT, ROOT_GOLD)
    pool.close()
    assert wait_until(lambda: workers(os.getpid()) == before, 3)


TRAINER = r"""
import sys, asyncio
import slow_judge
from openrlhf_math.rewards import GradingPool, RewardConfig, pool
pool.MODULE = "slow_judge"
async def main():
    pool = GradingPool(RewardConfig(workers=2, timeout_seconds=1))
    await pool.grade(r"\boxed{\sqrt{12}}", r"2\sqrt{3}")
    asyncio.ensure_future(pool.grade(slow_judge.POWER, "x+y"))   # one worker deep in a multiplication
    asyncio.ensure_future(pool.grade(slow_judge.SPIN, "x+y"))
    await asyncio.sleep(0.7)
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""

PATHS = os.environ | {"PYTHONPATH": os.path.dirname(slow_judge.__file__)}


def test_killed_trainer_leaves_no_process():
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=PATHS
    )
    assert trainer.stdout.readline() == "ready\n"
    started = workers(trainer.pid)
    assert started
    trainer.kill()
    trainer.wait()
    assert wait_until(lambda: not any(map(alive, started)), 60)


def test_no_semaphore_outlives_the_trainer():
    """As Ray ends an actor: with all its children."""
    before = set(os.listdir("/dev/shm"))
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER], stdout=subprocess.PIPE, text=True, start_new_session=True, env=PATHS
    )
    assert trainer.stdout.readline() == "ready\n"
    os.killpg(trainer.pid, signal.SIGKILL)
    trainer.wait()
    assert {name for name in os.listdir("/dev/shm") if name.startswith("sem.mp-")} <= before


SCRIPT = """
import time
from pathlib import Path
print("main runs", flush=True)
from openrlhf_math.rewards import grade
print(grade(r"\\boxed{\\sqrt{12}}", r"2\\sqrt{3}").outcome)
"""


def test_script_without_a_main_guard(tmp_path):
    """The workers do not import the parent's `__main__`, and the script ends by itself."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n") == ["main runs", "correct", ""], done.stderr


def test_grading_needs_neither_torch_nor_sympy_to_start():
    code = (
        "import sys, json; from openrlhf_math.rewards import grade; grade(r'\\boxed{5}', '5');"
        "names = ('torch', 'ray', 'vllm', 'sympy', 'mpmath');"
        "print(json.dumps([name for name in names if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_grade_alone_is_safe():
    begun = time.monotonic()
    config = RewardConfig(workers=1, timeout_seconds=0.5)
    assert grade(SPIN, "z+1", config=config).reason == "timeout"
    assert time.monotonic() - begun < 60


def test_deadline_counts_worker_time(pool):
    """A worker that gets no time on a core is not late: it was stopped for twice its deadline."""
    before = workers(os.getpid())
    pool.grade_now(ROOT, ROOT_GOLD)
    (worker,) = workers(os.getpid()) - before
    found = []
    os.kill(worker, signal.SIGSTOP)
    thread = threading.Thread(target=lambda: found.append(pool.grade_now(r"\boxed{\sqrt{44}}", r"2\sqrt{11}")))
    thread.start()
    time.sleep(1.5)
    os.kill(worker, signal.SIGCONT)
    thread.join(30)
    assert found[0].outcome == "correct"
    assert worker in workers(os.getpid())


@pytest.mark.parametrize("length", [10, 200_000], ids=["short", "more than a pipe holds"])
def test_stalled_worker_is_ended_by_wall_clock(pool, monkeypatch, length):
    before = workers(os.getpid())
    pool.grade_now(ROOT, ROOT_GOLD)
    (worker,) = workers(os.getpid()) - before
    os.kill(worker, signal.SIGSTOP)
    monkeypatch.setattr(pool_module, "wall_seconds", lambda seconds: 1.0)
    begun = time.monotonic()
    found = pool._verdict("x+1", "x+" + "1" * length, "").result(60)
    assert (found.same, found.reason, found.retryable) == (None, "wall clock", False)
    assert time.monotonic() - begun < 30 and not alive(worker)
    monkeypatch.undo()
    assert pool.grade_now(r"\boxed{\sqrt{44}}", r"2\sqrt{11}").outcome == "correct"


def test_workers_have_the_priority_of_their_parent(pool):
    before = workers(os.getpid())
    pool.grade_now(ROOT, ROOT_GOLD)
    (worker,) = workers(os.getpid()) - before
    assert os.getpriority(os.PRIO_PROCESS, worker) == os.getpriority(os.PRIO_PROCESS, os.getpid())


def test_timeout_keeps_the_worker(pool):
    pool.grade_now(ROOT, ROOT_GOLD)
    before = workers(os.getpid())
    assert pool.grade_now(SPIN, "z+1").reason == "timeout"
    assert workers(os.getpid()) == before


def test_answers_of_any_length_and_characters_round_trip(pool):
    """More than a pipe holds, with what ends a line, half a surrogate pair and NUL."""
    odd = "\\sqrt{12}+" + "\n\u2028\ud800\0" * 30_000
    assert pool.grade_now(rf"\boxed{{{odd}}}", ROOT_GOLD).outcome in ("wrong", "ungraded")
    assert pool.grade_now(ROOT, ROOT_GOLD).outcome == "correct"


def test_worker_start_failure_leaves_answers_ungraded(pool, monkeypatch):
    monkeypatch.setattr(pool_module, "MODULE", "no_such_module")
    found = pool.grade_now(ROOT, ROOT_GOLD)
    assert (found.outcome, found.reward) == ("ungraded", 0.0)
    monkeypatch.undo()
    assert pool.grade_now(ROOT, ROOT_GOLD).outcome == "correct"


def test_printed_output_is_not_a_reply():
    judge = "lambda *task: print('x', flush=True) or (True, '', 0.0)"
    code = f"from openrlhf_math.rewards import worker; worker.judge = {judge}"
    asked = '["1", "1", "", 1.0]\n'
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; worker.serve(1 << 30, {os.getpid()})"],
        input=asked, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert [json.loads(line) for line in done.stdout.splitlines()] == [None, [True, "", 0.0]]
    assert done.stderr == "x\n" and done.returncode == 0
