"""A folder of checkpoints: a new one takes its name when it is whole, the newest whole one is found, old ones go."""

import json
import math
import re
import shutil
from pathlib import Path

from openrlhf_math.checkpoints.manifest import damage_of, sync
from openrlhf_math.data.files import written_whole
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
        raise ValueError(f"{tag} is no name of a checkpoint")
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
    with written_whole(folder / "latest") as file:
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
