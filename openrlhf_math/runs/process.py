"""The process that runs in a run directory, in its process.json: its identity, its progress, how it ended.

A process is known by its host, that host's boot, its number and the clock tick it started at, since numbers are reused.
One that was killed says nothing more: its file says "running", and no such process is there.
"""

import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from openrlhf_math.arguments import TrainingArguments
from openrlhf_math.data.files import write_json
from openrlhf_math.errors import UserError, first_line

FILE = "process.json"
RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"
KILLED, ELSEWHERE = "killed", "running elsewhere"  # what a file that says "running" may mean
LONGEST_CAUSE = 2000  # characters


@dataclass(frozen=True, slots=True)
class Process:
    """command: the one that resumes the run, without secrets. began, step_at, ended: Unix time; None: not yet.
    steps: in all, 0 while that is not known. born: as `born` gives it."""

    command: str
    state: str = RUNNING
    cause: str = ""
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    born: str = field(default_factory=lambda: born(os.getpid()) or "")
    began: float = field(default_factory=time.time)
    step: int = 0
    steps: int = 0
    step_at: float | None = None
    ended: float | None = None


Beat = Callable[[dict, int], None]


@contextmanager
def working(
    flag: str, run_dir: Path, command: str, stops: tuple[type[BaseException], ...] = (KeyboardInterrupt,)
) -> Iterator[Beat]:
    """While the block runs, this process owns `run_dir`. Yields a function (a step's record, steps in
    all) to be called after every step.

    stops: exceptions that end a run on request; any other one is a failure. Raises UserError, which
    names `flag`, if another process runs there.
    """
    check_alone(flag, run_dir)
    now = Process(command)

    def write(**changed: Any) -> None:
        nonlocal now
        now = replace(now, **changed)
        write_json(run_dir / FILE, asdict(now))

    write()
    try:
        yield lambda record, steps: write(step=record["step"], steps=steps, step_at=time.time())
    except BaseException as error:
        state = STOPPED if isinstance(error, stops) else FAILED
        with suppress(OSError):  # a full disk may be what the run failed of; that error is the one to report
            write(state=state, cause=first_line(error, LONGEST_CAUSE), ended=time.time())
        raise
    write(state=FINISHED, ended=time.time())


def check_alone(flag: str, run_dir: Path) -> None:
    """Raise UserError, which names `flag`, if another process runs in it: the two would mix their records."""
    other = read_process(run_dir)
    if other and other.pid != os.getpid() and state_of(other) == RUNNING:
        raise UserError(f"{flag} {run_dir}: process {other.pid} runs in it; wait until it ends, or end it")


def read_process(run_dir: Path) -> Process | None:
    """None if no process wrote one, or what is there is none."""
    try:
        found = json.loads((run_dir / FILE).read_text(encoding="utf-8", errors="replace"))
        return Process(**{each.name: found[each.name] for each in fields(Process)})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def state_of(process: Process) -> str:
    """What its file says, or, if it says "running", whether that is still so."""
    if process.state != RUNNING:
        return process.state
    if process.host != socket.gethostname():
        return ELSEWHERE
    return RUNNING if process.born and process.born == born(process.pid) else KILLED


def born(pid: int) -> str | None:
    """The boot of this host and the clock tick at which a process started; None if there is no such process.

    Linux: proc(5), /proc/PID/stat; the fields after the name, which may hold anything, come after its last ")".
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else f"{boot} {after_name[19]}"  # a zombie is not a running process


def claim_run_dir(args: TrainingArguments) -> None:
    """Raise UserError if the run directory holds another run and the user does not ask to resume it, if one runs
    there, or if a file has the name of a directory that the run would make. args: the settings of a training."""
    run_dir = args.math.run_dir
    for flag, folder in (
        ("--math.run_dir", run_dir),
        ("--ckpt.output_dir", args.ckpt.output_dir),
        ("--ckpt.path", args.ckpt.path),
        ("--logger.tensorboard_dir", args.logger.tensorboard_dir or run_dir),
    ):
        for path in (Path(folder), *Path(folder).parents):
            if path.exists() and not path.is_dir():
                raise UserError(f"{flag} {folder}: {path} is not a directory; choose another")
    if sign := next((sign for sign in ",@" if sign in str(run_dir)), ""):
        raise UserError(
            f"--math.run_dir {run_dir}: OpenRLHF reads the run's rows from it, and takes '{sign}' for the end of their "
            "path; choose a directory without it"
        )
    check_alone("--math.run_dir", run_dir)
    if (run_dir / "config.json").exists() and not args.ckpt.load_enable:
        raise UserError(
            f"--math.run_dir {run_dir} holds another run; choose a new directory, or resume with --ckpt.load_enable"
        )


def resume_command(arguments: list[str] | None = None) -> str:
    """The command that resumes this run, quoted for a shell. arguments: sys.argv[1:]. Keys are not repeated."""
    words, hide = [], False
    for word in sys.argv[1:] if arguments is None else arguments:
        name, equals, _ = word.partition("=")
        secret = name.startswith("--") and name.endswith(".key")
        words.append("..." if hide else f"{name}=..." if secret and equals else word)
        hide = secret and not equals
    if not {"--ckpt.load_enable", "--resume"} & set(words):
        words.append("--ckpt.load_enable")
    return shlex.join(["openrlhf-math", *words])
