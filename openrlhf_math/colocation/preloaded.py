"""Ray workers of this machine, forked from one process that has imported everything they need.

Imports are most of what a start costs on a CPU: torch, vLLM, DeepSpeed and OpenRLHF take six seconds of a core in each
worker. Here one process imports them while Ray starts. It then forks each worker within milliseconds, and the workers
share its memory. Ray has a place for this: the `py_executable` of a runtime environment is run instead of Python. Ours
is `preloaded_client.py`, which asks for a fork and becomes an ordinary Python process where it cannot have one.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from openrlhf_math.colocation import preloaded_client
from openrlhf_math.patches import remote_code

MODULES = (
    "vllm.v1.engine.async_llm",
    "vllm.v1.worker.cpu_worker",
    "deepspeed",
    "openrlhf.cli.train_ppo_ray",
    "openrlhf_math.grpo.rollout.rollout_actor",
    "openrlhf_math.grpo.update.policy_actor",
)

# Libraries read these as they are imported: a worker that wants another value cannot be forked.
BAKED = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "LD_", "PYTHON", "TORCH", "VLLM_", "DS_", remote_code.VARIABLE)

# Libraries set these as they are imported, so that a process which has them may have begun without them.
OF_LIBRARIES = ("LD_LIBRARY_PATH", "TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS")
# Ray sets it for its debugger; Python reads it when a breakpoint is reached.
NOT_BAKED = "PYTHONBREAKPOINT"

# Ray's library reads its two variables of a worker once, as it is loaded, which is before any worker is asked for. The
# first job of a cluster has this number; a worker of another job is not forked.
FIRST_JOB = "01000000"
JOB = "RAY_JOB_ID"
# Of the process without which a worker ends.
PARENT = "RAY_RAYLET_PID"

LONGEST_PATH = 100  # bytes of a Unix socket's; the kernel's limit is 108

# Where a command finds the process of the command that runs it.
PLACE = "OPENRLHF_MATH_PRELOADED"
READ = "environment.json"

_server: subprocess.Popen | None = None
_folder: Path | None = None


def begin(environment: Mapping[str, str], modules: Sequence[str] = MODULES) -> None:
    """Start the process on a CPU, unless Ray runs elsewhere; it ends with `end`, and with this process. The one of the
    command that runs this one is used, if it has read the same environment.

    environment: of the workers, besides this process's. Returns at once: a worker waits for the imports.
    """
    global _server, _folder
    if _folder is not None or os.environ.get("RAY_ADDRESS") or environment.get("DS_ACCELERATOR") != "cpu":
        return
    there = Path(os.environ.get(PLACE, ""))
    if PLACE in os.environ and _read(there) == _read_here(environment):
        _folder = there
        return
    _server, _folder = _started(environment, modules)
    atexit.register(end)


def _started(environment: Mapping[str, str], modules: Sequence[str]) -> tuple[subprocess.Popen | None, Path | None]:
    """The process and the folder of its socket; neither where temporary files have too long a path."""
    folder = Path(tempfile.mkdtemp(prefix="openrlhf_math_"))
    if len(os.fsencode(folder / "socket")) > LONGEST_PATH:
        folder.rmdir()
        return None, None
    (folder / READ).write_text(json.dumps(_read_here(environment)))
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder / "socket"), *modules],
            stdin=subprocess.PIPE,  # its end says that this process has ended
            stdout=log,
            stderr=log,
            env={**os.environ, **environment, JOB: FIRST_JOB, PARENT: str(os.getpid())},
            start_new_session=True,  # Ctrl-C is for this process, which ends the others in their order
        )
    return server, folder


def py_executable() -> dict[str, str]:
    """Part of Ray's runtime environment; empty if `begin` was not called."""
    return {"py_executable": shlex.join(_client(_folder))} if _folder else {}


def python() -> list[str]:
    """The beginning of a command line in place of `python`: a fork within `shared`, else Python itself."""
    there = os.environ.get(PLACE)
    return _client(Path(there)) if there else [sys.executable]


def _client(folder: Path) -> list[str]:
    return [sys.executable, "-I", "-S", preloaded_client.__file__, str(folder / "socket")]


@contextlib.contextmanager
def shared(environment: Mapping[str, str], modules: Sequence[str] = MODULES) -> Iterator[None]:
    """While the block runs, the commands that this process runs use one process. environment: of the workers."""
    server, folder = _started(environment, modules)
    if folder:
        os.environ[PLACE] = str(folder)
    try:
        yield
    finally:
        if server and folder:
            os.environ.pop(PLACE, None)
            _ended(server, folder)


def end() -> None:
    """End the process that `begin` started, after Ray's. Its workers end with Ray."""
    global _server, _folder
    if _server and _folder:
        _ended(_server, _folder)
    _server = _folder = None


def _ended(server: subprocess.Popen, folder: Path) -> None:
    server.kill()
    server.communicate()
    shutil.rmtree(folder, ignore_errors=True)


def _read_here(environment: Mapping[str, str]) -> dict[str, str]:
    there = baked({**os.environ, **environment})
    return {name: value for name, value in there.items() if name not in OF_LIBRARIES}


def _read(folder: Path) -> dict[str, str] | None:
    """What the process of a folder has read; None if it is gone."""
    try:
        return json.loads((folder / READ).read_text())
    except (OSError, ValueError):
        return None


class Server:
    """Answers `preloaded_client.py`: forks, and reports how the fork ended."""

    def __init__(self, path: str) -> None:
        self._clients: dict[int, socket.socket] = {}  # by the process number of the fork
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen(64)
        self._socket.setblocking(False)
        self._environment = baked(os.environ)
        self._selector = selectors.DefaultSelector()

    def serve(self) -> list[str]:
        """Until stdin ends; then this process ends. In a fork, returns the script it is to run and its arguments."""
        woken, wake = socket.socketpair()
        for each in (woken, wake):
            each.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno())
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(woken, selectors.EVENT_READ)
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is sys.stdin:
                    self._end()
                elif key.fileobj is woken:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(4096)
                    self._reap()
                elif key.fileobj is self._socket:
                    if words := self._fork():
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        for each in (self._socket, woken, wake, *self._clients.values()):
                            each.close()
                        self._selector.close()
                        return words
                else:
                    self._lost(key.data)

    def _fork(self) -> list[str]:
        """One client's wish. Returns an empty list in this process."""
        try:
            client, _ = self._socket.accept()
            client.settimeout(preloaded_client.SECONDS)
            request, descriptors = preloaded_client.received(client)
            fits = self._fits(request["environment"])
            client.sendall(preloaded_client.YES if fits else preloaded_client.NO)
        except (OSError, ValueError):
            return []
        process = os.fork() if fits else -1
        if process == 0:
            client.close()
            become(request["environment"], request["folder"], descriptors)
            return request["words"]
        for descriptor in descriptors:
            os.close(descriptor)
        if fits:
            print("forked", process, flush=True)
            self._clients[process] = client
            self._selector.register(client, selectors.EVENT_READ, process)
        return []

    def _fits(self, environment: Mapping[str, str]) -> bool:
        """Whether imports would have gone the same way there. Libraries set variables, too: a value that one has set
        here may be there, or not, as the process that began this one may have imported the same."""
        allowed = (self._environment, baked(os.environ))
        names = baked(environment).keys() | self._environment.keys()
        other = [name for name in names if environment.get(name) not in [each.get(name) for each in allowed]]
        if environment.get(JOB, FIRST_JOB) != FIRST_JOB:
            other.append(JOB)
        if other:
            print("not forked, other values of:", *sorted(other), flush=True)  # in the log next to the socket
        return not other

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                process, status = ended
                if client := self._clients.pop(process, None):
                    self._selector.unregister(client)
                    with contextlib.suppress(OSError):
                        client.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "little", signed=True))
                    client.close()

    def _lost(self, process: int) -> None:
        """A client that was killed takes its worker along, as Ray takes the one for the other."""
        client = self._clients.pop(process)
        self._selector.unregister(client)
        client.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)

    def _end(self) -> NoReturn:
        shutil.rmtree(Path(self._socket.getsockname()).parent, ignore_errors=True)
        os._exit(0)


def become(environment: Mapping[str, str], folder: str, descriptors: Sequence[int]) -> None:
    """Give this process what its client has. descriptors: stdin, stdout and stderr."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
        _reopen(number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)


def _reopen(number: int) -> None:
    """Make Python's object for a standard stream anew: it remembers whether what it was opened on can seek."""
    name, mode = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))[number]
    old = getattr(sys, name)
    buffering = 1 if number == 2 or os.isatty(number) else -1  # lines
    new = open(number, mode, buffering, encoding=old.encoding, errors=old.errors, closefd=False)  # noqa: SIM115
    setattr(sys, name, new)
    setattr(sys, f"__{name}__", new)


def baked(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(BAKED) and name != NOT_BAKED}


def main(path: str, *modules: str) -> None:
    gc.disable()  # it would look at a million new objects again and again
    server = Server(path)
    _raylet: Any = importlib.import_module("ray._raylet")
    _raylet.setproctitle("openrlhf-math workers")  # Ray finds the title's place now, and could not in a fork
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # a collection in a fork would copy every page that they share
    words = server.serve()
    gc.enable()
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    _raylet.setproctitle(shlex.join(["python", *words]))
    if words[0] == "-m":
        sys.argv[:], sys.path[0] = words[1:], ""
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:], sys.path[0] = words, str(Path(words[0]).parent)
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
