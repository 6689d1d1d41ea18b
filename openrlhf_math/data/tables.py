"""Rows of a file with a place each: JSONL, a JSON array, CSV or Parquet, as they are or compressed with gzip or zstd.

The format is told by the name's end, `rows.csv.gz`; other names, and standard input, are JSONL or a JSON array by their
first character.
"""

import codecs
import csv
import gzip
import io
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from openrlhf_math.errors import UserError

COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
LISTS = ("responses", "scores", "tokens", "truncated")
LONGEST_FIELD = 1 << 27


@dataclass(frozen=True, slots=True)
class Keys:
    """The columns that hold the gold, the response and the problem."""

    gold: str = "gold"
    response: str = "response"
    problem: str = "problem"

    def renamed(self, row: dict) -> dict:
        """The row with the columns under the names that the rest of the package uses."""
        names = {self.gold: "gold", self.response: "response", self.problem: "problem"}
        if names.keys() == set(names.values()) and not isinstance(row.get("response"), list):
            return row
        kept = {name: value for name, value in row.items() if name not in names.values() or name in names}
        found = {names.get(name, name): value for name, value in kept.items()}
        if isinstance(found.get("response"), list):
            found["responses"] = found.pop("response")
        return found


def read_table(name: str) -> Iterator[tuple[int, str, dict]]:
    """The rows of a file, or of standard input where the name is "-": number, place for messages, and the row.

    Raises UserError that names the file, or the row and what is wrong with it; for a file without rows as well.
    """
    path = Path(name)
    shown = "standard input" if name == "-" else name
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = COMPRESSED.get(suffixes.pop()) if suffixes and suffixes[-1] in COMPRESSED else None
    kind = suffixes[-1] if suffixes else ""
    found = False
    with _opened(name, shown, packed) as file:
        reader = {".csv": _csv, ".parquet": _parquet}.get(kind, _json)
        for row in reader(file, shown):
            found = True
            yield row
    if not found:
        raise UserError(f"{shown} has no rows; give at least one.")


def _opened(name: str, shown: str, packed: str | None) -> BinaryIO:
    try:
        file = sys.stdin.buffer if name == "-" else open(name, "rb")  # noqa: SIM115  the caller closes it
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror}.") from None
    if packed == "gzip":
        return gzip.open(file)
    if packed == "zstd":
        try:
            import pyarrow
        except ImportError:
            raise UserError(f"{shown}: reading zstd needs pyarrow; install it, or decompress the file.") from None
        return io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"))
    return file


def _json(file: BinaryIO, shown: str) -> Iterator[tuple[int, str, dict]]:
    lines = _lines(file, shown)
    lines = ((number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line) for number, line in lines)
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        return
    if first[1].lstrip()[:1] == b"[" and not _is_row(first[1]):
        yield from _array(first[1] + b"".join(line for _, line in lines), shown)
        return
    for number, line in itertools.chain([first], lines):
        if line.strip():
            place = f"{shown}, line {number}"
            yield number, place, _object(line, place)


def _is_row(line: bytes) -> bool:
    """Whether a line that begins with a bracket is JSON of its own, and so a wrong row and not an array's beginning."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return not all(isinstance(one, dict) for one in found)


def _lines(file: BinaryIO, shown: str) -> Iterator[tuple[int, bytes]]:
    try:
        yield from enumerate(file, start=1)
    except (OSError, EOFError) as error:  # a damaged archive
        raise UserError(f"{shown} cannot be decompressed: {error}.") from None


def _array(text: bytes, shown: str) -> Iterator[tuple[int, str, dict]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown} is no JSON array ({error}); give one array, or one object a line.") from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{shown}, row {number} is no JSON object.")
        yield number, f"{shown}, row {number}", row


def _object(line: bytes, place: str) -> dict:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON ({error}); every line must be one JSON object.") from None
    if not isinstance(row, dict):
        raise UserError(f'{place} is no JSON object; it must look like {{"gold": ..., "response": ...}}.')
    return row


def _csv(file: BinaryIO, shown: str) -> Iterator[tuple[int, str, dict]]:
    csv.field_size_limit(LONGEST_FIELD)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
    try:
        for number, row in enumerate(csv.DictReader(text), start=1):
            place = f"{shown}, row {number}"
            if None in row or None in row.values():
                raise UserError(f"{place} has another number of fields than the first line.")
            yield number, place, {name: _cell(name, value, place) for name, value in row.items()}
    except (csv.Error, OSError, EOFError) as error:
        raise UserError(f"{shown} is no CSV file: {error}.") from None


def _cell(name: str, value: str, place: str):
    """A field of CSV: lists are JSON, an empty field of another column than the gold is none."""
    if name in LISTS and value.strip()[:1] == "[":
        try:
            return json.loads(value)
        except ValueError as error:
            raise UserError(f"{place}: `{name}` is not JSON ({error}).") from None
    return value if value or name == "gold" else None


def _parquet(file: BinaryIO, shown: str) -> Iterator[tuple[int, str, dict]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{shown}: reading Parquet needs pyarrow; install it, or give JSONL.") from None
    try:
        table = pyarrow.parquet.ParquetFile(io.BytesIO(file.read()) if not file.seekable() else file)
        number = 0
        for batch in table.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield number, f"{shown}, row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{shown} is no Parquet file: {str(error).splitlines()[0]}.") from None
