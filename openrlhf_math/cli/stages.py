"""Our own commands, one after the other."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from openrlhf_math.colocation import preloaded

_records: list[list[list[str]]] = []  # of the blocks of `written_down` that run


def stage(title: str, *arguments) -> None:
    """Run one of our commands under a title."""
    from rich.console import Console

    Console().rule(f"[bold]{title}", align="left")
    command(*arguments)


def command(*arguments, capture: bool = False) -> str | None:
    """Run one of our commands in its own process, so that its memory and threads end with it.

    Returns what it prints, if that is to be captured. Raises CalledProcessError if it fails.
    """
    whole = command_line(*arguments)
    return subprocess.run(whole, check=True, text=True, stdout=subprocess.PIPE if capture else None).stdout


def command_line(*arguments) -> list[str]:
    """One of our commands as a process of its own takes it; it is written down."""
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
