"""What an experiment leaves: its figure, its tables in Markdown and JSON, and the commands that made it."""

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from openrlhf_math.data.files import written_whole
from openrlhf_math.report.table import as_markdown

COMMANDS = "commands.txt"
ABOUT_COMMANDS = "# In the order they ran; tiny-teacher serves, at the address of --base-url, while distill runs.\n"


def write_results(
    folder: Path, experiment: ModuleType, found: Any, commands: Sequence[Sequence[str]], seconds: float
) -> None:
    """Write NAME.png, .svg, .md, .json and commands.txt into `folder`, where NAME is the folder's.

    experiment: kl, efficiency, ...; found: its `Findings`. commands: arguments of ours, first the
    experiment itself, then what it ran. seconds: that all of them took.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / folder.name
    experiment.draw(found, stem)
    with written_whole(stem.with_suffix(".md")) as file:
        file.write(as_markdown(experiment.TITLE, experiment.tables(found)))
        file.write(f"\n![{experiment.TITLE}]({stem.name}.png)\n")
    with written_whole(stem.with_suffix(".json")) as file:
        file.write(json.dumps(_plain(asdict(found)) | {"seconds_of_all_commands": round(seconds)}, indent=2) + "\n")
    with written_whole(folder / COMMANDS) as file:
        file.write(ABOUT_COMMANDS)
        file.writelines(f"{shlex.join(['openrlhf-math', *command])}\n" for command in commands)


def _plain(value: Any) -> Any:
    """As JSON has it: NaN and infinity are null."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
