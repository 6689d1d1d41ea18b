"""Labelled solutions as files that are there whole or not at all."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from openrlhf_math.data.files import written_whole
from openrlhf_math.prm.rows import Solution

ROWS_AT_A_TIME = 1000
FORMATS = ("parquet", "jsonl")


@contextlib.contextmanager
def solution_file(path: Path) -> Iterator[Callable[[Solution], None]]:
    """A function that adds a solution to `path`, .parquet or .jsonl, which takes its name when the block is done.

    Columns: problem, steps, labels (null where a step has none), source. Raises OSError if it cannot be written.
    """
    writer = _jsonl if path.suffix == ".jsonl" else _parquet
    with writer(path) as add:
        yield add


@contextlib.contextmanager
def _jsonl(path: Path) -> Iterator[Callable[[Solution], None]]:
    with written_whole(path) as file:
        yield lambda solution: print(json.dumps(solution.as_row(), ensure_ascii=False), file=file)


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[Callable[[Solution], None]]:
    import pyarrow
    from pyarrow import parquet

    text, number = pyarrow.string(), pyarrow.float64()
    schema = pyarrow.schema(
        {"problem": text, "steps": pyarrow.list_(text), "labels": pyarrow.list_(number), "source": text}
    )
    unfinished = path.with_name(f".{path.name}.unfinished")
    waiting: list[dict] = []
    try:
        with parquet.ParquetWriter(unfinished, schema, compression="zstd") as file:

            def flush() -> None:
                file.write_table(pyarrow.Table.from_pylist(waiting, schema))
                waiting.clear()

            def add(solution: Solution) -> None:
                waiting.append(solution.as_row())
                if len(waiting) == ROWS_AT_A_TIME:
                    flush()

            yield add
            flush()
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
