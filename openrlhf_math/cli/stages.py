"""A sequence of this package's commands. A killed experiment resumes, and experiments share their common stages."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from openrlhf_math.colocation import preloaded
from openrlhf_math.errors import UserError
from openrlhf_math.runs.journal import Journal

_records: list[list[list[str]]] = []  # of the blocks of `written_down` that run


def stage(title: str, *arguments: object) -> None:
    """Run one of our commands under a title."""
    from rich.console import Console

    Console().rule(f"[bold]{title}", align="left")
    command(*arguments)


def command(*arguments: object) -> None:
    """Run one of our commands in its own process, so that its memory and threads end with it.

    Raises CalledProcessError if it fails.
    """
    subprocess.run(command_line(*arguments), check=True)


def output_of(*arguments: object) -> str:
    """As `command`. Returns what it prints."""
    return subprocess.run(command_line(*arguments), check=True, text=True, stdout=subprocess.PIPE).stdout


def command_line(*arguments: object) -> list[str]:
    """The command line of one of our commands in a new process; it is recorded."""
    texts = list(map(str, arguments))
    for record in _records:
        record.append(texts)
    return [*preloaded.python(), "-m", "openrlhf_math", *texts]


def failed_command(error: subprocess.CalledProcessError) -> str:
    """Which of our commands failed, of `command_line`."""
    return error.cmd[error.cmd.index("openrlhf_math") + 1]


@contextmanager
def written_down() -> Iterator[list[list[str]]]:
    """The arguments of every command that is run within the block, in order."""
    _records.append([])
    try:
        yield _records[-1]
    finally:
        _records.pop()


JOURNAL = "stages.jsonl"


class Stages:
    """The stages of a directory, each with its own folder; finished ones are recorded in a journal.

    A stage's name is its folder, and names all that its result depends on. Raises UserError if another experiment is at
    work in the directory, or it holds something else.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        if run_dir.is_file():
            raise UserError(f"--run-dir {run_dir} is a file; give the name of a directory")
        if run_dir.exists() and not (run_dir.is_dir() and (_is_ours(run_dir) or not any(run_dir.iterdir()))):
            raise UserError(f"--run-dir {run_dir} holds something other than experiments; choose a new directory")
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            self._journal = Journal(run_dir / JOURNAL, "--run-dir")
        except OSError as error:
            raise UserError(f"--run-dir {run_dir} cannot be written: {error.strerror}") from None
        self.commands: list[list[str]] = []
        self.seconds = 0.0

    def once(self, name: str, work: Callable[[Path], object]) -> Path:
        """The folder `name`, in which `work` is done unless it was; what a kill left of it is removed first.

        Its commands and seconds are added to those of this experiment either way.
        """
        folder = self._run_dir / name
        if (name, 0) not in self._journal:
            if folder.exists():
                shutil.rmtree(folder)
            begun = time.time()
            with written_down() as commands:
                work(folder)
            self._journal.append(name, 0, {"seconds": round(time.time() - begun, 1), "commands": commands})
        elif not folder.is_dir():
            raise UserError(
                f"--run-dir {self._run_dir}: {name} was done, but its folder is gone; choose a new directory"
            )
        record = self._journal.read(name, 0)
        self.commands += record["commands"]
        self.seconds += record["seconds"]
        return folder

    def close(self) -> None:
        self._journal.close()


def _is_ours(run_dir: Path) -> bool:
    return (run_dir / JOURNAL).is_file()
