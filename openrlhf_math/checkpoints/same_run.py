"""Checks that the run to resume is the one that was started."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from openrlhf_math.errors import UserError


def check_same(run_dir: Path, config: dict, free: Callable[[str], bool], rows: str, source: str) -> None:
    """Raise UserError if the run in `run_dir` began with other settings or rows: its weights would be no one's.

    config: nested settings, as config.json keeps them. free: whether a dotted name may differ. rows: the key under
    which what identifies the rows is kept. source: where they come from, as a flag and its value.
    """
    path = run_dir / "config.json"
    if not path.exists():
        return
    try:
        before = json.loads(path.read_text())
    except ValueError:
        raise UserError(
            f"--ckpt.load_enable: {path} is not JSON, so it cannot be resumed; choose another run"
        ) from None
    if before.get(rows) != config[rows]:
        raise UserError(
            f"--ckpt.load_enable: {source} gives other rows than the run in {run_dir} began with; give the same, or "
            "another --math.run_dir"
        )
    old, new = ({name: value for name, value in flat(each) if not free(name)} for each in (before, config))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            flag = name if name == "processes" else f"--{name}"
            raise UserError(
                f"--ckpt.load_enable: the run in {run_dir} began with {flag} {old.get(name)}, not {new.get(name)}; "
                "give the same, or another --math.run_dir"
            )


def flat(config: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of a dotted name and its value."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
