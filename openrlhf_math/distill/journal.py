"""The journal of attempts: what a killed run has, it keeps.

One JSON line an attempt, on disk before anything else happens to it. Texts stay in the file: memory holds where each
line stands, so that a journal may be larger than memory.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from openrlhf_math.errors import UserError


@contextlib.contextmanager
def told_if_unwritable(output: Path) -> Iterator[None]:
    """Turn a failure to write into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--output {output} cannot be written ({error.strerror or error}); mend that and run the command again, "
            "what stands in the journal is kept"
        ) from error


class Journal:
    """Attempts by (problem key, attempt number), append-only, held by one process at a time.

    Raises UserError if another process holds it, or for a line that is broken other than by a kill.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._places, self._end = self._scan()
        except BlockingIOError:
            os.close(self._file)
            raise UserError(f"--output {path.parent}: another run is at work there; wait for its end") from None
        except UserError:
            os.close(self._file)
            raise
        os.ftruncate(self._file, self._end)  # the line a kill tore off: its attempt is asked again

    def __contains__(self, name: tuple[str, int]) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._places)

    def append(self, key: str, attempt: int, record: dict) -> None:
        """Write one attempt, to the disk. Raises UserError if it cannot be."""
        if (key, attempt) in self._places:
            raise ValueError(f"attempt {attempt} at {key} is in the journal already")
        line = json.dumps({"key": key, "attempt": attempt} | record).encode() + b"\n"
        with told_if_unwritable(self._path.parent):
            left = memoryview(line)
            while left:
                left = left[os.write(self._file, left) :]
            os.fdatasync(self._file)
        self._places[key, attempt] = (self._end, len(line))
        self._end += len(line)

    def read(self, key: str, attempt: int) -> dict:
        """The record of an attempt. Raises KeyError if there is none."""
        start, length = self._places[key, attempt]
        return json.loads(os.pread(self._file, length, start))

    def close(self) -> None:
        os.close(self._file)

    def _scan(self) -> tuple[dict[tuple[str, int], tuple[int, int]], int]:
        """Where each attempt's line stands, and where the last whole line ends."""
        places: dict[tuple[str, int], tuple[int, int]] = {}
        end = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    record = json.loads(line)
                    name = (record["key"], record["attempt"])
                except (ValueError, KeyError, TypeError):
                    raise UserError(
                        f"{self._path}:{number}: the line is no attempt; delete it, and it is asked again"
                    ) from None
                if name in places:
                    raise UserError(f"{self._path}:{number}: that attempt stands there twice; delete one of the lines")
                places[name] = (end, len(line))
                end += len(line)
        return places, end
