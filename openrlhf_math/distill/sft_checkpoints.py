"""Checkpoints that a kill may have torn: which is the newest whole one."""

import re
import shutil
import zipfile
from pathlib import Path

from openrlhf_math.data.files import written_whole
from openrlhf_math.errors import UserError

TAG = re.compile(r"global_step(\d+)")
LAST_WRITTEN = "metric.json"  # OpenRLHF writes it when DeepSpeed is done with all other files of a checkpoint


def settle_checkpoints(folder: Path) -> None:
    """Make DeepSpeed's `latest` name the newest whole checkpoint in `folder`; remove torn ones, and say so.

    A torn one would count among those to keep, and push out a whole one. Raises UserError if none is whole though
    there are some: the run would begin anew, which nobody asked for.
    """
    tags = sorted((int(match[1]), path) for path in folder.glob("*") if (match := TAG.fullmatch(path.name)))
    troubles = {path: trouble for _, path in tags if (trouble := trouble_of(path))}
    whole = [path for _, path in tags if path not in troubles]
    if tags and not whole:
        path, trouble = list(troubles.items())[-1]
        raise UserError(
            f"--ckpt.load_enable: no checkpoint in {folder} is whole ({path.name}: {trouble}); remove them to begin "
            "anew, or put back a copy"
        )
    for path, trouble in troubles.items():
        print(f"checkpoint {path.name} is torn ({trouble}): removed, the run goes on from {whole[-1].name}")
        shutil.rmtree(path)
    if whole:
        with written_whole(folder / "latest") as file:
            file.write(whole[-1].name)


def trouble_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None. PyTorch's files are zip archives, their table stands at the end."""
    files = sorted(checkpoint.glob("*.pt"))
    for path in files:
        if not zipfile.is_zipfile(path):
            return f"{path.name} ends early"
    if not files or not (checkpoint / LAST_WRITTEN).exists():
        return "it was not written to its end"
    return None
