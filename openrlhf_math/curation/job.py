"""The data that every task of a run needs, and the folder of finished work from which a run resumes.

Every file is renamed into place when it is complete, and a task marks itself done when its files are in place. A task
is a function of its inputs alone, so an interrupted one is repeated.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openrlhf_math.curation.inputs import Piece
from openrlhf_math.curation.settings import CurationSettings


@dataclass(frozen=True)
class Workplace:
    """output: the directory of the dataset. Unfinished work is in `.work` in it."""

    output: Path

    @property
    def root(self) -> Path:
        return self.output / ".work"

    def file(self, stage: str, index: int, suffix: str) -> Path:
        return self.root / stage / f"{index:06d}{suffix}"

    @contextlib.contextmanager
    def replaced(self, path: Path) -> Iterator[Path]:
        """A name to write to; the file takes its own name at the end of the block."""
        for folder in (self.root / "unfinished", path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(dir=self.root / "unfinished")
        os.close(descriptor)
        os.chmod(unfinished, 0o644)
        try:
            yield Path(unfinished)
            os.replace(unfinished, path)
        finally:
            Path(unfinished).unlink(missing_ok=True)

    def write_json(self, path: Path, value: object) -> None:
        with self.replaced(path) as unfinished:
            unfinished.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def write_array(self, path: Path, array: np.ndarray) -> None:
        with self.replaced(path) as unfinished, open(unfinished, "wb") as file:
            np.save(file, array)

    def result(self, stage: str, index: int) -> dict | None:
        """What a finished task reported, None if it is not finished."""
        try:
            return json.loads(self.file(stage, index, ".json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def finish(self, stage: str, index: int, result: dict) -> dict:
        self.write_json(self.file(stage, index, ".json"), result)
        return result


@dataclass(frozen=True)
class Job:
    """The settings, the pieces of all inputs but the benchmarks, and where the work is done.

    benchmark_digest: of the benchmarks' problems, which are in `benchmark_file`.
    """

    settings: CurationSettings
    output: Path
    pieces: tuple[Piece, ...]
    benchmark_digest: str = ""

    @property
    def workplace(self) -> Workplace:
        return Workplace(self.output)

    @property
    def benchmark_file(self) -> Path:
        return self.workplace.root / "benchmarks.jsonl"

    def place(self, row_id: int) -> str:
        """The place of a row, for people."""
        return self.pieces[row_id >> 32].place(row_id)
