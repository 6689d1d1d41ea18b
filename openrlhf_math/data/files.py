"""Atomic writes: a file is complete or absent."""

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from openrlhf_math.errors import UserError

if TYPE_CHECKING:
    from pyarrow import Schema

ROWS_AT_A_TIME = 1000
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


def write_json(path: Path, value: object) -> None:
    """A file that is one value, complete or absent. Raises OSError if it cannot be written."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=2) + "\n")


def write_parquet(path: Path, rows: Iterable[dict], schema: "Schema") -> None:
    """A Parquet file, complete or absent, of rows of which ROWS_AT_A_TIME are in memory. Raises OSError."""
    from pyarrow import Table, parquet

    left = iter(rows)
    with named_when_complete(path) as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while batch := list(islice(left, ROWS_AT_A_TIME)):
            writer.write_table(Table.from_pylist(batch, schema))


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
