"""How many rows a set has, as far as that is known while it is read."""

import os
from collections.abc import Iterable
from typing import BinaryIO

from openrlhf_math.data.places import File
from openrlhf_math.data.tables import kind_of


class Extent:
    """Parquet says how many rows it has. Of other files, the share of their bytes that is read gives about how many.

    The reader of the set says which files there are and opens each through it.
    """

    def __init__(self) -> None:
        self._exact: int | None = None
        self._sizes: dict[str, int] = {}
        self._before = 0  # bytes of the files that are done
        self._open: tuple[str, BinaryIO] | None = None

    def begin(self, files: Iterable[File]) -> None:
        files = list(files)
        self._sizes = {file.path: os.path.getsize(file.path) for file in files}
        if all(kind_of(file.name) == ("parquet", None) for file in files):
            self._exact = _rows_of_parquet(files)

    def opened(self, path: str, file: BinaryIO) -> None:
        """The next file is being read."""
        if self._open:
            self._before += self._sizes[self._open[0]]
        self._open = path, file

    def rows(self, read: int) -> int:
        """About how many rows there are, 0 where nothing says so. read: how many have been read."""
        if self._exact is not None:
            return self._exact
        if not self._open:
            return 0
        path, file = self._open
        done = self._before + (self._sizes[path] if file.closed else min(file.tell(), self._sizes[path]))
        return round(read * sum(self._sizes.values()) / done) if done else 0


def _rows_of_parquet(files: Iterable[File]) -> int | None:
    """None where a file is damaged, which reading it will say."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        return None
    try:
        return sum(parquet.read_metadata(file.path).num_rows for file in files)
    except (ArrowException, OSError):
        return None
