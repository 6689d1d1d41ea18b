"""Programs that attack the machine, the kernel's process or its protocol, see `hostile_programs.py`.

Of each: nothing gets out, the next call works, and nothing stays behind. All run at once, sixteen side by side.
"""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hostile_programs import PROGRAMS

from openrlhf_math.errors import UserError
from openrlhf_math.tools.isolation import PROBE, find_isolation, new_kernel, tree
from openrlhf_math.tools.kernel import Kernel, KernelLimits

LIMITS = KernelLimits(seconds=10, wall_seconds=60, memory_mb=256, processes=16, output_chars=2000, disk_mb=8)
SHORT = replace(LIMITS, seconds=1, wall_seconds=4)  # for programs that are to run into these
NEXT = "6 * 7"


def in_other_namespaces() -> set[str]:
    own, found = os.readlink("/proc/self/ns/pid"), set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") != own:
                found.add(pid)
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def isolation() -> str:
    try:
        return find_isolation("auto")
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Targets of attacks, and a record of what reached them."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").write_text("SECRET-IN-A-FILE")
    os.environ["TOOL_TEST_SECRET"] = "SECRET-IN-THE-ENVIRONMENT"
    tcp, unix, abstract = socket.create_server(("127.0.0.1", 0)), *(socket.socket(socket.AF_UNIX) for _ in range(2))
    unix.bind(str(folder / "socket"))
    abstract.bind(f"\0tool-test-{os.getpid()}")
    for server in (unix, abstract):
        server.listen()
    names = {
        "secret_file": folder / "secret",
        "outside": folder / "written",
        "home": Path.home(),
        "parent": os.getpid(),
        "tcp": tcp.getsockname()[1],
        "unix": folder / "socket",
        "abstract": f"tool-test-{os.getpid()}",
    }
    yield {name: str(value) for name, value in names.items()} | {"servers": (tcp, unix, abstract)}
    del os.environ["TOOL_TEST_SECRET"]
    for server in (tcp, unix, abstract):
        server.close()


@pytest.fixture(scope="module")
def results(isolation, world):
    """Of every program by its name: its result, that of the next call, and that of the one after it."""
    before = in_other_namespaces()

    def run(program):
        code = program.code
        for name, value in world.items():
            code = code.replace("{" + name + "}", str(value))
        with new_kernel(SHORT if program.ends == "time" else LIMITS, isolation) as kernel:
            return kernel.run(code), kernel.run(NEXT), kernel.run(NEXT)

    with ThreadPoolExecutor(16) as threads:
        done = dict(zip((one.name for one in PROGRAMS), threads.map(run, PROGRAMS), strict=True))
    until = time.monotonic() + 30
    while (left := in_other_namespaces() - before) and time.monotonic() < until:
        time.sleep(0.1)
    return done | {"left": left}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_hostile_program_is_contained(program, results):
    result, *following = results[program.name]
    assert result.status == program.ends, result
    assert program.says in result.output
    assert "OUT" not in result.output and "SECRET" not in result.output and "TOOL_TEST" not in result.output
    assert len(result.output) < LIMITS.output_chars + 500
    assert following[-1].output.splitlines()[0] == "42" or following[0].output.splitlines()[0] == "42", following


def test_no_process_or_file_is_left(results, world):
    assert results["left"] == set()
    folder = Path(world["secret_file"]).parent
    assert {path.name for path in folder.iterdir()} == {"secret", "socket"}
    for server in world["servers"]:
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_hostile_programs_are_numerous():
    assert len({program.name for program in PROGRAMS}) == len(PROGRAMS) >= 60


def test_long_output_uses_no_memory(isolation):
    with new_kernel(replace(LIMITS, seconds=2), isolation) as kernel:
        result = kernel.run("print('a' * 5000 + 'END')")
    assert result.output.endswith("END") and result.output.startswith("a" * 1500)
    assert f"{5004 - 2000} bytes" in result.output


def test_python_in_tmp_works(tmp_path, isolation):
    """The new root then has folders in /tmp, of which the code sees only what is shown, and works in none of them."""
    if not str(tmp_path).startswith("/tmp/"):
        pytest.skip("the test's folder is not below /tmp")
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "python").write_text("shown")
    (tmp_path / "secret").write_text("SECRET")
    shown = [*tree(), (str(tmp_path / "venv"), None)]
    limits = KernelLimits(seconds=10, wall_seconds=60, processes=8)
    with Kernel(limits, isolation, shown) as kernel:
        probe = kernel.run(f"PROCESSES = {limits.processes}\n{PROBE}")
    with Kernel(limits, isolation, shown) as kernel:
        seen = kernel.run(f"import os\nos.listdir({str(tmp_path)!r}), open({str(tmp_path / 'venv/python')!r}).read()")
        written = kernel.run(f"open({str(tmp_path / 'venv/python')!r}, 'w')")
    assert probe.output == "yes"
    assert seen.output == "(['venv'], 'shown')"
    assert written.status == "error" and "Read-only" in written.output
