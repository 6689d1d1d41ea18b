"""The manifest of a checkpoint: size and SHA-256 of every file, by which a torn or changed one is known.

It guards against kills, full disks, failing disks and careless hands. It is not signed: who can write files into the
folder can write a manifest that fits them.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from openrlhf_math.data.files import written_whole

MANIFEST = "manifest.json"
CHUNK = 2**22  # bytes read at a time; hashlib lets other threads run meanwhile

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
    with written_whole(checkpoint / MANIFEST) as file:
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
    sha256 = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(CHUNK):
            sha256.update(block)
    return sha256.hexdigest()


def sync(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
