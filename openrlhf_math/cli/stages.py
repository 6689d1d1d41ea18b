"""Our own commands, one after the other."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from openrlhf_math.colocation import preloaded

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
