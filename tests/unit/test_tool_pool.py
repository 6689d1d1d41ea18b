"""Kernels for many attempts: their state, their number, and their end. Without isolation, so it runs anywhere."""

import asyncio
import os
from pathlib import Path

import pytest

from openrlhf_math.errors import UserError
from openrlhf_math.tools import isolation
from openrlhf_math.tools.kernel import Kernel, KernelLimits
from openrlhf_math.tools.pool import KernelPool

LIMITS = KernelLimits(seconds=5, wall_seconds=60)


def pool(size: int = 2, limits: KernelLimits = LIMITS) -> KernelPool:
    return KernelPool(limits, "none", size)


def test_variables_live_as_long_as_the_attempt():
    async def run():
        kernels = pool()
        async with kernels.session() as one, kernels.session() as other:
            await one.run("x = 5\ndef f(n): return n + x")
            first, second = await one.run("f(2)"), await other.run("f(2)")
        async with kernels.session() as later:
            return first, second, await later.run("x")

    first, second, third = asyncio.run(run())
    assert (first.output, first.status) == ("7", "ok")
    assert second.status == third.status == "error"
    assert second.output.endswith("NameError: name 'f' is not defined")


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("1 + 1", "2"), ("x = 3", ""), ("print(1)\n2", "1\n2"), ("None", ""),
        ("'a'", "'a'"), ("for i in range(2): i", ""),
        ("import sys\nprint('e', file=sys.stderr)\nprint('o')", "e\no"), ("", ""), ("# nothing", ""),
        ("len(str(2**100000))", "30103"),
        ("from dataclasses import dataclass\n@dataclass\nclass A: x: int\nA(1)", "A(x=1)"),
        ("'é∑'", "'é∑'"),
    ],
)  # fmt: skip
def test_notebooks_output(code, output):
    async def run():
        async with pool().session() as session:
            return await session.run(code)

    result = asyncio.run(run())
    assert (result.output, result.status, result.fresh) == (output, "ok", False)


def test_timed_out_call_loses_variables_and_reports_it():
    async def run():
        async with pool(limits=KernelLimits(seconds=1)).session() as session:
            await session.run("x = 5")
            return [await session.run(code) for code in ("while True: pass", "x", "1")]

    ended, lost, after = asyncio.run(run())
    assert (ended.status, ended.fresh) == ("time", False)
    assert (lost.status, lost.fresh) == ("error", True)
    assert (after.output, after.fresh) == ("1", False)


def test_call_to_a_closed_kernel_ends_as_died():
    class ClosedBetween(Kernel):
        def _call(self, code, deadline):
            self.close()  # as from another thread, between the start and the call
            return super()._call(code, deadline)

    result = ClosedBetween(LIMITS, "none").run("1 + 1")
    assert result.status == "died"


def test_caller_without_a_free_kernel_gets_an_answer():
    async def run():
        kernels = pool(1)
        async with kernels.session() as one, kernels.session() as other:
            await one.run("1")
            busy = await other.run("2", 0.2)
            one.close()
            return busy, await other.run("2")

    busy, free = asyncio.run(run())
    assert busy.status == "time" and free.output == "2"


def test_cancelled_call_ends_its_process_and_frees_its_slot(tmp_path):
    mark = tmp_path / "pid"

    async def run():
        kernels = pool(1)
        async with kernels.session() as session:
            code = f"import os, time\nopen({str(mark)!r}, 'w').write(str(os.getpid()))\ntime.sleep(1000)"
            task = asyncio.create_task(session.run(code))
            while not mark.exists() or not mark.read_text():
                await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with kernels.session() as session:
            return await session.run("1")

    assert asyncio.run(run()).output == "1"
    pid = int(mark.read_text())
    for _ in range(500):
        if not Path(f"/proc/{pid}").exists():
            return
        asyncio.run(asyncio.sleep(0.02))
    raise AssertionError("its process is still there")


def test_leftovers_without_isolation_are_ended_and_removed(tmp_path):
    async def run():
        async with pool().session() as session:
            code = "import os, subprocess\np = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
            return await session.run(code + "open('x', 'w').close()\n(p.pid, os.getcwd())")

    pid, folder = eval(asyncio.run(run()).output)
    for _ in range(500):
        if not Path(f"/proc/{pid}").exists() and not Path(folder).exists():
            return
        asyncio.run(asyncio.sleep(0.02))
    raise AssertionError((os.path.exists(f"/proc/{pid}"), os.path.exists(folder)))


def test_environment_is_empty(monkeypatch):
    monkeypatch.setenv("TOOL_TEST_SECRET", "SECRET")

    async def run():
        async with pool().session() as session:
            return await session.run("import os\n'TOOL_TEST_SECRET' in os.environ")

    assert asyncio.run(run()).output == "False"


@pytest.mark.parametrize("fault", [{"seconds": 0}, {"memory_mb": 1}, {"processes": 1}, {"seconds": float("inf")}])
def test_limits_that_are_too_small_are_refused(fault):
    with pytest.raises(ValueError, match=next(iter(fault))):
        KernelLimits(**fault)


def test_unavailable_isolation_is_refused(monkeypatch):
    monkeypatch.setattr(isolation, "_fault", lambda kind: "EPERM")
    with pytest.raises(UserError, match="--tool-isolation none"):
        isolation.find_isolation("auto")
    assert isolation.find_isolation("none") == "none"


def test_probe_that_sees_the_machine_fails():
    assert isolation._fault.__wrapped__("none") != ""
