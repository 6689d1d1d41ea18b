"""Our own commands, one after the other."""

import subprocess
import sys


def stage(title: str, *arguments) -> None:
    """Run one of our commands under a title."""
    from rich.console import Console

    Console().rule(f"[bold]{title}", align="left")
    command(*arguments)


def command(*arguments, capture: bool = False) -> str | None:
    """Run one of our commands in its own process, so that its memory and threads end with it.

    Returns what it prints, if that is to be captured. Raises CalledProcessError if it fails.
    """
    whole = [sys.executable, "-m", "openrlhf_math", *map(str, arguments)]
    return subprocess.run(whole, check=True, text=True, stdout=subprocess.PIPE if capture else None).stdout
