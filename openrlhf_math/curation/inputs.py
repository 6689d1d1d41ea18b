"""Files and hub names, split into pieces that can be read independently; and the rows of a piece."""

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import xxhash

from openrlhf_math.data.columns import Columns
from openrlhf_math.data.places import files_of, place_of
from openrlhf_math.data.sources import SOURCES, Reader, reader_of, recognised
from openrlhf_math.data.tables import (
    MAX_LINE,
    Damaged,
    Unreadable,
    is_lines,
    json_row,
    kind_of,
    lines_of,
    parquet_rows,
    without_mark,
)
from openrlhf_math.data.tables import rows_of as rows_of_file
from openrlhf_math.registry import Registry

# A piece is what one task reads: so much keeps its memory small and its loss by a crash short.
PIECE_ROWS = 10_000
PIECE_BYTES = 64 << 20
FIRST_LINES = 100


@dataclass(frozen=True, slots=True)
class Input:
    """A file. role: "source", "against" or "benchmark". name: of the set, as written to `source`.

    file: as shown to people. path: where it is. format: "lines", "parquet", or "" for one that is read from its
    beginning. reader: a known set or a dotted path, "" for plain columns.
    """

    role: str
    name: str
    file: str
    path: str
    format: str
    reader: str
    licence: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of rows of a file: bytes start to stop of JSONL, row groups start to stop of Parquet, else all of it.

    first: rows (lines) of the file before it. rows: how many it has.
    """

    index: int
    input: Input
    start: int
    stop: int
    first: int
    rows: int

    @property
    def first_id(self) -> int:
        """The number of its first row among all rows of all inputs, in their order, with gaps."""
        return self.index << 32

    def place(self, row_id: int) -> str:
        """The place of a row of it, for people."""
        return f"{self.input.name}: {self.input.file}, row {row_id - self.first_id + self.first + 1}"


def reader_of_input(file: Input, columns: Columns) -> Reader:
    """How its rows are read: as its set is, or by the user's own function."""
    is_custom = file.reader and file.reader not in SOURCES
    return _custom_reader(file.role, file.reader) if is_custom else reader_of(file.reader, columns)


def _custom_reader(role: str, path: str) -> Reader:
    """The user's function. Raises UserError if there is none."""
    return Registry[Reader]().find(f"--{role}", path, SOURCES)


def find_inputs(role: str, spec: str, columns: Columns, licences: dict[str, str]) -> list[Input]:
    """The files of `[NAME=]PLACE`, in order. Raises UserError if there are none, or no column holds the problem.

    NAME: a known set, a dotted path to the user's reader, or any name for the set. PLACE: a file, a folder, or a hub
    name, `owner/name[@config][:split]`; without `=` also the name of a known set.
    """
    name, place = _name_and_place(spec)
    found = place_of(place, name)
    custom = name if "." in name and name not in SOURCES else ""
    if custom:
        _custom_reader(role, custom)
    known = found.source.name if found.source else ""
    licence = licences.get(name or known) or (found.source.licence if found.source else "not stated")
    inputs = []
    for file in files_of(found, None, f"--{role}"):
        kind = (
            "parquet" if kind_of(file.name) == ("parquet", None) else "lines" if is_lines(file.name, file.path) else ""
        )
        path = os.path.abspath(file.path)
        one = Input(role, name or known or _stem(place), file.name, path, kind, custom or known, licence)
        inputs.append(one if custom else _recognised(one, columns))
    return inputs


def _stem(place: str) -> str:
    """The name of a file without its ends: `sums` of `sums.jsonl.gz`."""
    path = Path(place)
    return Path(path.stem).stem if kind_of(place)[1] else path.stem


def _name_and_place(spec: str) -> tuple[str, str]:
    name, equals, place = spec.partition("=")
    return (name, place) if equals and "/" not in name else ("", spec)


def _recognised(file: Input, columns: Columns) -> Input:
    """The input with the reader that its columns call for. Raises UserError if a column is not there."""
    try:
        rows = [row for _, row in islice(rows_of_file(file.file, file.path), FIRST_LINES) if isinstance(row, dict)]
    except Damaged:
        rows = []
    if not rows:
        return file  # nothing in it can be read: the stage that reads it reports that
    needed = ("problem", "answer") if file.role == "source" else ("problem",)
    place = f"--{file.role} {file.file}"
    return dataclasses.replace(file, reader=recognised(place, rows, columns, file.reader, needed))


def split(file: Input, index: int) -> tuple[Input, list[Piece]]:
    """The file with its digest, and its pieces, numbered from `index`. Reads it once from end to end.

    Raises OSError or ArrowException, or Damaged where a file is cut off or not of its format.
    """
    digest = xxhash.xxh3_128()
    if file.format == "lines":
        cuts = _cut_lines(file.path, digest)
    else:
        cuts = _cut_parquet(file.path) if file.format == "parquet" else _one_piece(file)
        with open(file.path, "rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    file = dataclasses.replace(file, digest=digest.hexdigest())
    return file, [Piece(index + number, file, *cut) for number, cut in enumerate(cuts)]


def _one_piece(file: Input) -> list[tuple[int, int, int, int]]:
    """Compressed files, arrays, CSV and Arrow are read from their beginning, by one task."""
    rows = sum(1 for _ in rows_of_file(file.file, file.path))
    return [(0, 0, 0, rows)] if rows else []


def _cut_lines(path: str, digest: xxhash.xxh3_128) -> list[tuple[int, int, int, int]]:
    cuts = []
    start = position = first = rows = 0
    with open(path, "rb") as opened:
        while line := opened.readline(MAX_LINE):
            digest.update(line)
            position += len(line)
            if not line.endswith(b"\n") and len(line) == MAX_LINE:
                continue
            rows += 1
            if rows == PIECE_ROWS or position - start >= PIECE_BYTES:
                cuts.append((start, position, first, rows))
                start, first, rows = position, first + rows, 0
    if position > start:
        cuts.append((start, position, first, max(rows, 1)))
    return cuts


def _cut_parquet(path: str) -> list[tuple[int, int, int, int]]:
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    cuts = []
    start = first = rows = size = 0
    for number, group in enumerate(groups, start=1):
        rows, size = rows + group.num_rows, size + group.total_byte_size
        if rows >= PIECE_ROWS or size >= PIECE_BYTES or number == len(groups):
            cuts.append((start, number, first, rows))
            start, first, rows, size = number, first + rows, 0, 0
    return cuts


def rows_of(piece: Piece) -> Iterator[tuple[int, dict | Unreadable]]:
    """The rows of a piece with their numbers in the file, from 1; in place of a row that cannot be read, why."""
    file = piece.input
    if file.format == "parquet":
        return parquet_rows(file.path, file.file, range(piece.start, piece.stop), piece.first)
    return _lines(piece) if file.format == "lines" else rows_of_file(file.file, file.path)


def _lines(piece: Piece) -> Iterator[tuple[int, dict | Unreadable]]:
    with open(piece.input.path, "rb") as opened:
        opened.seek(piece.start)
        for number, line in enumerate(lines_of(opened, piece.stop - piece.start), start=piece.first + 1):
            line = without_mark(line, piece.input.file) if number == 1 and line else line
            if line is None or line.strip():
                yield number, json_row(line)
