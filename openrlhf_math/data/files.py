"""Atomic writes: a file is complete or absent."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from openrlhf_math.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[TextIO]:
    """A text file that takes its name only when the block is done; after an error nothing is left.

    What a link leads to is written, and the link stays. A device or a pipe, /dev/stdout for instance, is written as it
    is: renaming a file over it would take it away. Raises OSError if the directory cannot be written.
    """
    if path.exists() and not path.is_file():  # before links are followed: that of /dev/stdout leads to no path
        with path.open("w", encoding="utf-8") as file:
            yield file
        return
    path = Path(os.path.realpath(path))
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            yield file
        os.chmod(unfinished, 0o666 & ~_umask())
        os.replace(unfinished, path)
    except BaseException as error:
        os.unlink(unfinished)
        if isinstance(error, OSError) and error.errno in FULL:
            error.filename = str(path)  # a full disk names no file
        raise


@contextlib.contextmanager
def named_when_complete(path: Path) -> Iterator[Path]:
    """A path to write a file to, of any kind, which takes its name when the block is done; after an error nothing is
    left. Its bytes are on the disk then. Raises OSError if the directory cannot be written."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def claim_directory(flag: str, path: Path) -> None:
    """Make a directory, unless it is there. Raises UserError if it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{flag} {path} cannot be made: {error.strerror}; choose another place") from None
