"""A folder of checkpoints: a complete one is renamed into place, the newest is found, old ones are removed.

A checkpoint's manifest has the size and SHA-256 of every file, so that a torn or changed file is found. It guards
against kills, full disks, failing disks and accidental edits. It is not signed: anyone who can write into the
folder can write a manifest that fits. A run to resume must be the one that was started.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from openrlhf_math.data.files import atomic_write
from openrlhf_math.errors import UserError

TAG = re.compile(r"(best_)?global_step(\d+)")  # OpenRLHF's names; the best one by evaluation is kept apart
UNFINISHED = ".unfinished"  # where a checkpoint is written
REFUSED = "refused_"  # before the name of one that is not what was written
ADAPTER = "adapter"  # where the adapter of a LoRA is, within the folder of the merged model
METRIC = "metric.json"  # OpenRLHF's record of the evaluation that a checkpoint goes with
GIB = 2**30


class CheckpointError(RuntimeError):
    """A checkpoint that could not be written: which, why, and what is left."""


def age(tag: str) -> tuple[int, bool]:
    """Sorts names from the oldest; at the same step the regular checkpoint comes last."""
    match = TAG.fullmatch(tag)
    if match is None:
        raise ValueError(f"{tag} is not the name of a checkpoint")
    return int(match[2]), not match[1]


def tags_in(folder: Path) -> list[str]:
    """Names of the checkpoints in a folder, the oldest first."""
    return sorted((path.name for path in folder.glob("*") if TAG.fullmatch(path.name) and path.is_dir()), key=age)


def settle(*folders: Path) -> str | None:
    """Let DeepSpeed's `latest` name the newest checkpoint that is whole in all folders (a run has one for each model).

    Returns its name; None if there is no checkpoint at all. Newer ones that are not what was written are named and set
    aside as `refused_...`. Raises UserError, and changes nothing, if there are some and none is whole: the run would
    start over, which was not asked for.
    """
    there = [folder for folder in folders if folder.exists()]
    tags = sorted({tag for folder in there for tag in tags_in(folder)}, key=age, reverse=True)
    refused: dict[str, str] = {}
    for tag in tags:
        fault = next(filter(None, (damage_of(folder / tag) for folder in there)), None)
        if fault is None:
            _set_aside(there, refused, tag)
            for folder in there:
                name_latest(folder, tag)
            return tag
        refused[tag] = fault
    if not refused:
        return None
    tag, fault = next(iter(refused.items()))
    raise UserError(
        f"--ckpt.load_enable: no checkpoint in {there[0]} is whole ({tag}: {fault}); remove them to start "
        "again, or put back a copy"
    )


def _set_aside(folders: list[Path], refused: dict[str, str], used: str) -> None:
    for tag, fault in refused.items():
        kept = f"it is kept as {REFUSED}{tag}, the run resumes from {used}"
        print(f"checkpoint {tag} is refused: {fault}; {kept}", flush=True)
        for folder in folders:
            if (folder / tag).exists():
                shutil.rmtree(folder / f"{REFUSED}{tag}", ignore_errors=True)
                (folder / tag).rename(folder / f"{REFUSED}{tag}")


def commit(folder: Path, tag: str) -> None:
    """Give a checkpoint in `.unfinished`, whose files and manifest are on the disk, its name. Raises OSError."""
    if (folder / tag).exists():  # of an earlier life of this run
        shutil.rmtree(folder / tag)
    (folder / UNFINISHED / tag).rename(folder / tag)
    sync(folder)
    name_latest(folder, tag)
    clear_unfinished(folder)


def clear_unfinished(folder: Path) -> None:
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def name_latest(folder: Path, tag: str) -> None:
    with atomic_write(folder / "latest") as file:
        file.write(tag)


def make_room(folder: Path, newest: str, max_num: int, max_gib: float) -> None:
    """Remove old checkpoints until so many regular ones are left that take so much room; never the newest.

    In OpenRLHF's order: first those that go with no evaluation, then the worst, then the oldest. Of the best ones by
    evaluation only the newest is kept.
    """
    best = [tag for tag in tags_in(folder) if tag.startswith("best_")]
    for tag in best[:-1]:
        shutil.rmtree(folder / tag)
    regular = [tag for tag in tags_in(folder) if not tag.startswith("best_")]
    going = sorted((tag for tag in regular if tag != newest), key=lambda tag: (_metric(folder / tag), age(tag)))
    sizes = {tag: _bytes(folder / tag) for tag in tags_in(folder)}
    while going and (len(regular) > max_num or sum(sizes.values()) > max_gib * GIB):
        tag = going.pop(0)
        shutil.rmtree(folder / tag)
        regular.remove(tag)
        del sizes[tag]


def _metric(checkpoint: Path) -> float:
    """Minus infinity where there is none."""
    try:
        value = json.loads((checkpoint / METRIC).read_text())["metric_value"]
    except (OSError, ValueError, KeyError, TypeError):
        return -math.inf
    return -math.inf if value is None else float(value)


def _bytes(checkpoint: Path) -> int:
    return sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())


MANIFEST = "manifest.json"

Entries = dict[str, dict[str, int | str]]  # path within the checkpoint -> {"bytes": ..., "sha256": ...}


def files_of(checkpoint: Path) -> list[str]:
    """Paths within a checkpoint, sorted, without the manifest."""
    files = (path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if not path.is_dir())
    return sorted(name for name in files if name != MANIFEST)


def seal(checkpoint: Path, names: Iterable[str]) -> Entries:
    """Entries of these files, which are on the disk when it returns. Raises OSError."""
    entries: Entries = {}
    for name in names:
        sync(checkpoint / name)
        entries[name] = {"bytes": (checkpoint / name).stat().st_size, "sha256": digest(checkpoint / name)}
    return entries


def write_manifest(checkpoint: Path, entries: Entries) -> None:
    """Last of all files, which must be on the disk. Raises OSError."""
    with atomic_write(checkpoint / MANIFEST) as file:
        file.write(json.dumps({"files": entries}, indent=2, sort_keys=True) + "\n")
    sync(checkpoint / MANIFEST)
    for folder in (*(path for path in checkpoint.rglob("*") if path.is_dir()), checkpoint):
        sync(folder)


def damage_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, as the end of a sentence, or None. Reads all of it."""
    if not (checkpoint / MANIFEST).exists():
        return f"it has no {MANIFEST}, so it was not written to its end"
    try:
        entries = json.loads((checkpoint / MANIFEST).read_text())["files"]
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"its {MANIFEST} cannot be read"
    found = set(files_of(checkpoint))
    if missing := sorted(expected.keys() - found):
        return f"{missing[0]} is missing"
    if more := sorted(found - expected.keys()):
        return f"{more[0]} is not in its {MANIFEST}"
    for name, (size, _) in expected.items():
        if (there := (checkpoint / name).stat().st_size) != size:
            return f"{name} has {there} bytes, not {size}"
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda name: digest(checkpoint / name), expected)
        for (name, (_, sha256)), there in zip(expected.items(), digests, strict=True):
            if there != sha256:
                return f"{name} is not what was written"
    return None


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
