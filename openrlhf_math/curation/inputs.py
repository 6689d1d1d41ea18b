"""Files and hub names, cut into pieces that can be read on their own; and the rows of a piece."""

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from openrlhf_math.curation.sources import (
    SOURCES,
    Columns,
    PlainReader,
    Reader,
    Source,
    find_reader,
    recognise,
    with_usual_names,
)
from openrlhf_math.errors import UserError

FORMATS = {".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
# A piece is what one task reads: so much keeps its memory small and its loss by a crash short.
PIECE_ROWS = 10_000
PIECE_BYTES = 64 << 20
BATCH_ROWS = 500
FIRST_LINES = 100
# A longer line is no row but a broken file.
MAX_LINE = 32 << 20

# What stands in a row's place when it cannot be read: the reason.
Unreadable = str


@dataclass(frozen=True, slots=True)
class Input:
    """A file. role: "source", "against" or "benchmark". name: of the set, as written to `source`.

    file: as shown to people. path: where it lies. reader: a known source or a dotted path, "" for plain columns.
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
    """A run of rows of a file: bytes start to stop of JSONL, row groups start to stop of Parquet.

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
        """Where a row of it stands, for people."""
        return f"{self.input.name}: {self.input.file}, row {row_id - self.first_id + self.first + 1}"


def reader_of(file: Input, columns: Columns) -> Reader:
    """How its rows are read. A known set whose file has the usual columns in place of its own is read by these."""
    if file.reader in SOURCES:
        return with_usual_names(find_reader(file.reader), columns)
    return find_reader(file.reader) if file.reader else PlainReader(columns)


def find_inputs(role: str, spec: str, columns: Columns, licences: dict[str, str]) -> list[Input]:
    """The files of `[NAME=]PLACE`, in order. Raises UserError if there are none, or nothing tells how to read them.

    NAME: a known source, a dotted path to one's own reader, or any name to be known by. PLACE: a file, a directory, or
    a hub name `owner/name[@config][:split]`; without `=` also the name of a known source.
    """
    flag = f"--{role}"
    name, place = _name_and_place(spec)
    hub = place.partition(":")[0].partition("@")[0]
    source = SOURCES.get(name) or next((one for one in SOURCES.values() if one.hub and one.hub == hub), None)
    reader = ""
    if source:
        name, reader = name or source.name, source.name
    elif "." in name:
        find_reader(name)
        reader = name
    files = _files(flag, place, source)
    licence = licences.get(name) or (source.licence if source else "not stated")
    found = []
    for file, path, kind in files:
        one = Input(role, name or Path(place).stem, file, os.path.abspath(path), kind, reader, licence)
        found.append(one if reader else _recognised(flag, one, columns))
    return found


def _name_and_place(spec: str) -> tuple[str, str]:
    name, equals, place = spec.partition("=")
    if equals and "/" not in name:
        return name, place
    if spec in SOURCES and not os.path.exists(spec):
        return spec, ""
    return "", spec


def _files(flag: str, place: str, source: Source | None) -> list[tuple[str, str, str]]:
    """(name for people, path, format) of every file of a place."""
    path = Path(place)
    if place and path.is_file():
        return [(place, place, _format(flag, place))]
    if place and path.is_dir() and not (path / "README.md").is_file():
        below = sorted(one for one in path.rglob("*") if one.suffix in FORMATS and one.is_file())
        if not below:
            raise UserError(f"{flag} {place}: there is no JSONL or Parquet file in it")
        return [(str(one), str(one), FORMATS[one.suffix]) for one in below]
    if place and not path.is_dir() and (path.suffix in FORMATS or place.startswith((".", "/"))):
        raise UserError(f"{flag} {place}: there is no such file or directory")
    return _dataset_files(flag, place, source)


def _dataset_files(flag: str, place: str, source: Source | None) -> list[tuple[str, str, str]]:
    """The files of a dataset with a card, on the hub or in a directory, as its card lists them."""
    import datasets

    place, _, split = place.partition(":")
    place, _, config = place.partition("@")
    known = source if source and not (place and Path(place).is_dir()) else None
    configs = [config] if config else known.configs if known and known.configs else [None]
    split = split or (known.split if known else "train")
    place = place or (known.hub if known else "")
    found = []
    try:
        for config in configs:
            listed = datasets.load_dataset_builder(place, config).config.data_files
            if split not in listed:
                raise UserError(f"{flag} {place}: it has no split '{split}', only {', '.join(map(str, listed))}")
            names = [str(name) for name in listed[split]]
            paths = datasets.DownloadManager().download(names)
            found += [(name, path, _format(flag, name)) for name, path in zip(names, paths, strict=True)]
    except UserError:
        raise
    except Exception as error:  # the library's own errors have no common class
        raise UserError(
            f"{flag} {place}: cannot be read as a dataset ({str(error).splitlines()[0]}); "
            "its files can be given instead, as NAME=FILE"
        ) from error
    return found


def _format(flag: str, name: str) -> str:
    suffix = Path(name).suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"{flag} {name}: it is neither JSONL nor Parquet; convert it")
    return FORMATS[suffix]


def _recognised(flag: str, file: Input, columns: Columns) -> Input:
    """The input with the reader that its columns call for. Raises UserError if no column holds the problem."""
    names = _first_columns(file)
    if not names:
        return file  # nothing in it can be read, which reading it will tell
    named = any(getattr(columns, what) for what in ("problem", "answer"))
    reader = None if named else recognise(names)
    plain = PlainReader(columns).columns
    if not reader:
        for what in ("problem", "answer") if file.role == "source" else ("problem",):
            if plain.name(what, names) not in names:
                raise UserError(
                    f"{flag} {file.file}: no column holds the {what}, there are only {', '.join(names)}; "
                    f"name it with --{what}-key"
                )
    return dataclasses.replace(file, reader=reader or "")


def _first_columns(file: Input) -> list[str]:
    """The names of the columns: of Parquet by its schema, of JSONL by what stands in the first lines."""
    if file.format == "parquet":
        try:
            return pq.read_schema(file.path).names
        except (pa.ArrowException, OSError):
            return []
    with open(file.path, "rb") as opened:
        rows = [_parsed(line) for line in islice(_lines(opened, os.path.getsize(file.path)), FIRST_LINES) if line]
    return list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))


def split(file: Input, index: int) -> tuple[Input, list[Piece]]:
    """The file with its digest, and its pieces, numbered from `index`. Reads it once from end to end.

    Raises OSError, or ArrowException where Parquet is broken.
    """
    digest = xxhash.xxh3_128()
    if file.format == "parquet":
        cuts = _cut_parquet(file.path)
        with open(file.path, "rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    else:
        cuts = _cut_lines(file.path, digest)
    file = dataclasses.replace(file, digest=digest.hexdigest())
    return file, [Piece(index + number, file, *cut) for number, cut in enumerate(cuts)]


def _cut_lines(path: str, digest) -> list[tuple[int, int, int, int]]:
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
    return _parquet_rows(piece) if piece.input.format == "parquet" else _jsonl_rows(piece)


def _jsonl_rows(piece: Piece) -> Iterator[tuple[int, dict | Unreadable]]:
    with open(piece.input.path, "rb") as opened:
        opened.seek(piece.start)
        for number, line in enumerate(_lines(opened, piece.stop - piece.start), start=piece.first + 1):
            if line is None:
                yield number, f"the line is longer than {MAX_LINE:,} bytes"
            elif line.strip():
                yield number, _parsed(line)


def _lines(opened, size: int) -> Iterator[bytes | None]:
    """The lines of the next `size` bytes; None for one that is too long."""
    too_long = False
    while size > 0 and (line := opened.readline(min(MAX_LINE, size))):
        size -= len(line)
        ends = line.endswith(b"\n") or len(line) < MAX_LINE
        if ends:
            yield None if too_long else line
        too_long = not ends
    if too_long:
        yield None


def _parsed(line: bytes) -> dict | Unreadable:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return f"it is not valid UTF-8 ({error.reason} at byte {error.start})"
    except (ValueError, RecursionError) as error:
        return f"the line is not JSON ({error})"
    return row if isinstance(row, dict) else f"the line is no JSON object but {row!r:.40}"


def _parquet_rows(piece: Piece) -> Iterator[tuple[int, dict | Unreadable]]:
    """Batch by batch. Where a row group is damaged, the rows of it that were not read yet are each set aside."""
    with pq.ParquetFile(piece.input.path) as file:
        number = piece.first
        for group in range(piece.start, piece.stop):
            end = number + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], use_threads=False):
                    for row in _batch_rows(batch):
                        number += 1
                        yield number, row
            except (pa.ArrowException, OSError) as error:
                while number < end:
                    number += 1
                    yield number, f"row group {group} is damaged ({str(error).splitlines()[0]:.200})"


def _batch_rows(batch: pa.RecordBatch) -> list[dict | Unreadable]:
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        return [_single_row(batch.slice(index, 1)) for index in range(batch.num_rows)]


def _single_row(batch: pa.RecordBatch) -> dict | Unreadable:
    try:
        return batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        return f"it is not valid UTF-8 ({error.reason} at byte {error.start})"
