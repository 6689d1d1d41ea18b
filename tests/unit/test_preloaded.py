"""Workers forked from a process that has imported everything: what they are, and what happens where none can be."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from openrlhf_math.colocation import preloaded, preloaded_client

SECONDS = 60
ENVIRONMENT = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
REPORT = """
import json, os, random, sys
for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(errors="backslashreplace")  # as every command does: it seeks where a stream says that it can
print(json.dumps({
    "words": sys.argv[1:], "parent": os.getppid(), "process": os.getpid(), "folder": os.getcwd(),
    "loaded": "colorsys" in sys.modules, "variable": os.environ.get("OF_THE_WORKER"), "number": random.random(),
    "threads": os.environ["OMP_NUM_THREADS"], "name": __name__, "file": __file__, "path": sys.path[0],
}), flush=True)
print("to stderr", file=sys.stderr, flush=True)
"""


@contextmanager
def running(modules: tuple[str, ...]):
    preloaded.begin(ENVIRONMENT, modules)
    deadline = time.monotonic() + SECONDS
    while not (preloaded._folder / "socket").exists():
        assert time.monotonic() < deadline, (preloaded._folder / "log").read_text()
        time.sleep(0.02)
    yield preloaded._server.pid
    preloaded.end()


@pytest.fixture
def served():
    with running(("colorsys",)) as server:  # which nothing else imports
        yield server


def started(script: Path, *words: str, **variables: str) -> subprocess.Popen:
    command = [*preloaded.py_executable()["py_executable"].split(), str(script), *words]
    environment = {**os.environ, **ENVIRONMENT, preloaded.JOB: preloaded.FIRST_JOB, **variables}
    return subprocess.Popen(
        command, env=environment, cwd=script.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def report(script: Path, *words: str, **variables: str) -> dict:
    process = started(script, *words, **variables)
    output, errors = process.communicate(timeout=SECONDS)
    assert errors == "to stderr\n"
    assert process.returncode == 0
    return json.loads(output) | {"client": process.pid}


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "worker.py"
    path.write_text(REPORT)
    return path


def test_forked_worker_looks_like_a_separate_process(served, script):
    found = report(script, "--port=1", "two words", OF_THE_WORKER="ä\udcff")
    assert found["parent"] == served
    assert found["loaded"]
    assert found["words"] == ["--port=1", "two words"]
    assert found["variable"] == "ä\udcff"
    assert Path(found["folder"]) == script.parent
    assert (found["name"], found["file"], found["path"]) == ("__main__", str(script), str(script.parent))


def test_forks_draw_different_random_numbers(served, script):
    first, second = report(script), report(script)
    assert first["parent"] == second["parent"] == served
    assert first["number"] != second["number"]


@pytest.mark.parametrize("variables", [{"OMP_NUM_THREADS": "7"}, {"VLLM_SOMETHING": "1"}, {"RAY_JOB_ID": "02000000"}])
def test_import_time_environment_must_match(served, script, variables):
    found = report(script, "a", **variables)
    assert found["process"] == found["client"]  # the client itself, as an ordinary Python process
    assert not found["loaded"]
    assert found["words"] == ["a"]
    assert found["threads"] == variables.get("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize("variables", [{}, {"TORCHINDUCTOR_CACHE_DIR": "there"}])
def test_variables_set_by_an_import_may_differ(monkeypatch, tmp_path, script, variables):
    (tmp_path / "sets_a_variable.py").write_text("import os; os.environ['TORCHINDUCTOR_CACHE_DIR'] = 'there'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with running(("sets_a_variable",)) as server:
        assert report(script, **variables)["parent"] == server
        other = report(script, TORCHINDUCTOR_CACHE_DIR="elsewhere")
        assert other["process"] == other["client"]


def test_ray_debugger_variables_may_differ(served, script):
    assert report(script, PYTHONBREAKPOINT="ray.util.rpdb._driver_set_trace")["parent"] == served


def test_worker_starts_normally_without_the_fork_server(served, script):
    os.kill(served, signal.SIGKILL)
    preloaded._server.wait(SECONDS)
    found = report(script)
    assert found["process"] == found["client"]


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("1 / 0", 1),
        ("import os; os._exit(5)", 5),
        ("import os; os.kill(os.getpid(), 9)", 137),
    ],
)
def test_client_ends_as_the_worker_does(served, script, ending, status):
    script.write_text(ending)
    process = started(script)
    process.communicate(timeout=SECONDS)
    assert process.returncode == status


def test_killing_the_client_ends_its_worker(served, script):
    script.write_text(REPORT + "import time; time.sleep(600)")
    process = started(script)
    worker = psutil.Process(json.loads(process.stdout.readline())["process"])
    assert worker.ppid() == served
    process.kill()
    process.communicate(timeout=SECONDS)
    worker.wait(SECONDS)


def test_invalid_socket_data_does_not_stop_the_server(served, script):
    import socket

    for nonsense in (b"", b"\xff\xff\xff\xff", b"\x02\0\0\0{}", os.urandom(1000)):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(preloaded._folder / "socket"))
            client.sendall(nonsense)
    assert report(script)["parent"] == served


def test_server_ends_with_its_parent(tmp_path):
    program = (
        "import time, os\nfrom openrlhf_math.colocation import preloaded\n"
        f"preloaded.begin({ENVIRONMENT!r}, ('colorsys',))\n"
        "print(preloaded._server.pid, preloaded._folder, flush=True)\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    number, folder = parent.stdout.readline().split()
    process = psutil.Process(int(number))
    deadline = time.monotonic() + SECONDS
    while not (Path(folder) / "socket").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    parent.kill()
    parent.communicate(timeout=SECONDS)
    process.wait(SECONDS)
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("environment", "address"), [({"DS_ACCELERATOR": "cuda"}, ""), ({}, ""), (ENVIRONMENT, "10.0.0.1:6379")]
)
def test_server_is_only_for_cpus_and_local_clusters(monkeypatch, environment, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    preloaded.begin(environment, ("colorsys",))
    assert preloaded.py_executable() == {}


def test_too_long_socket_path_disables_the_server(monkeypatch, tmp_path):
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    preloaded.begin(ENVIRONMENT, ("colorsys",))
    assert preloaded.py_executable() == {}
    assert list(deep.iterdir()) == []


def test_client_imports_only_the_standard_library():
    words = [sys.executable, "-I", "-S", "-c", "import sys; sys.path.append(sys.argv[1]); import preloaded_client"]
    folder = str(Path(preloaded_client.__file__).parent)
    assert subprocess.run([*words, folder], check=False).returncode == 0


def in_the_same_place() -> dict:
    """What a command does that finds the process of the one that runs it."""
    program = (
        "import json, os\nfrom openrlhf_math.colocation import preloaded\n"
        f"preloaded.begin({ENVIRONMENT!r} | json.loads(os.environ['MORE']), ('colorsys',))\n"
        "print(json.dumps([str(preloaded._folder), preloaded._server is None]))\n"
    )
    environment = os.environ | {"MORE": os.environ.get("MORE", "{}")}
    output = subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, check=True).stdout
    return dict(zip(("folder", "inherited"), json.loads(output), strict=True))


def test_nested_commands_share_the_fork_server(monkeypatch, tmp_path):
    with preloaded.shared(ENVIRONMENT, ("colorsys",)):
        folder = Path(os.environ[preloaded.PLACE])
        assert in_the_same_place() == {"folder": str(folder), "inherited": True}
        assert folder.exists()  # the end of the other left it alone
        monkeypatch.setenv("MORE", json.dumps({"OMP_NUM_THREADS": "2"}))
        other = in_the_same_place()
        assert other["folder"] != str(folder)
        assert not other["inherited"]
    assert not folder.exists()
    assert preloaded.PLACE not in os.environ
    assert preloaded.python() == [sys.executable]


def test_command_can_be_a_fork():
    words = ["-m", "openrlhf_math", "--version"]
    expected = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, check=True).stdout
    with preloaded.shared(ENVIRONMENT, ("colorsys",)):
        command, environment = [*preloaded.python(), *words], os.environ | ENVIRONMENT
        found = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=SECONDS)
    assert found.stdout == expected
    assert command[0] == sys.executable and preloaded_client.__file__ in command


def test_fork_server_can_start_and_end_in_a_process(script):
    """As a test session does, in which commands run in the process that shares."""
    with preloaded.shared(ENVIRONMENT, ("colorsys",)):
        folder = Path(os.environ[preloaded.PLACE])
        for _ in range(2):
            preloaded.begin(ENVIRONMENT)
            assert str(folder / "socket") in preloaded.py_executable()["py_executable"]
            preloaded.end()
            assert preloaded.py_executable() == {}
        assert folder.exists()
    assert not folder.exists()
