"""File formats: rows of JSONL, a JSON array, CSV, TSV, Parquet or Arrow, as they are or compressed with gzip or zstd.

The format is given by the end of the name, as in `rows.csv.gz`; whether text is JSONL or an array, by its first
character. Text is UTF-8, with or without a byte order mark. No more than a few rows are in memory at once.
"""

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import json
import re
import shutil
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

if TYPE_CHECKING:
    import pyarrow

from openrlhf_math.data.columns import MISSING, look
from openrlhf_math.errors import UserError, first_line

COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
FORMATS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
FORMATS |= {".arrow": "arrow"}
SUPPORTED = "JSONL, JSON, CSV, TSV, Parquet or Arrow, also as .gz or .zst"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
LISTS = ("responses", "scores", "tokens", "truncated")
MAX_LINE = 32 << 20  # a longer line or entry is not a row but a broken file
NOT_UTF8 = "it is not valid UTF-8"
BATCH_ROWS = 500
CHUNK = 1 << 20
PLAIN = json.JSONDecoder().raw_decode
BETWEEN = re.compile(r"[\s,]*")
TURN = re.compile(rb"""\[\s{0,99}\{\s{0,99}"(?:from|role)\"""")


class Damaged(UserError):
    """A file of which the rest cannot be read: cut off, or not of its format."""


class Unreadable(str):
    """What is given in place of a row that cannot be read, where the next ones can: the reason."""


class Repeated(Exception):
    """A JSON object that has a key twice, so that no one can say which value counts."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises Repeated."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Repeated(f"it has the key {name!r:.60} twice")
    return found


STRICT = json.JSONDecoder(object_pairs_hook=_object).raw_decode


Rows = Iterator[tuple[int, dict | Unreadable]]
Peekable = io.BufferedReader | gzip.GzipFile


@dataclass(frozen=True, slots=True)
class Keys:
    """The columns that hold the gold, the response and the problem; a field within one as `column.field`."""

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
        fields = {plain: look(row, name) for name, plain in names.items() if name not in row}
        found |= {plain: value for plain, value in fields.items() if value is not MISSING}
        if isinstance(found.get("response"), list):
            found["responses"] = found.pop("response")
        return found


def read_table(name: str) -> Iterator[tuple[int, str, dict]]:
    """The rows of a file, or of standard input where the name is "-": number, place for messages, and the row.

    Raises UserError that names the file, or the row and what is wrong with it; for a file without rows as well.
    """
    shown = "standard input" if name == "-" else name
    found = False
    for number, row in rows_of(name):
        place = place_of(name, number)
        if isinstance(row, Unreadable):
            raise UserError(f"{place}: {row}; correct or drop it.")
        found = True
        yield number, place, row
    if not found:
        raise UserError(f"{shown} has no rows; give at least one.")


def place_of(name: str, number: int) -> str:
    """Where a row is, for people. number: as `rows_of` gives it."""
    return f"{'standard input' if name == '-' else name}, {'line' if _counts_lines(name) else 'row'} {number}"


def rows_of(name: str, path: str | None = None, opened: Callable[[BinaryIO], None] | None = None) -> Rows:
    """The rows of a file with their numbers from 1: the line in JSONL, else the row; a reason in place of a broken one.

    path: where the file is, if its name alone says its format. opened: is given the open file, whose position says how
    much is read. Raises UserError for a file that cannot be read, Damaged for one that cannot be read to its end.
    """
    shown = "standard input" if name == "-" else name
    kind, packed = kind_of(name)
    with _opened(path or name, shown, packed, opened) as file:
        if kind == "json":
            yield from _json(file, shown)
        elif kind == "parquet":
            yield from parquet_rows(file, shown)
        elif kind == "arrow":
            yield from _arrow(file, shown)
        else:
            yield from _csv(file, shown, "\t" if kind == "tsv" else ",")


def kind_of(name: str) -> tuple[str, str | None]:
    """The format by the name's end, "json" for an unknown one, and how the file is compressed."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    packed = COMPRESSED.get(suffixes.pop()) if suffixes and suffixes[-1] in COMPRESSED else None
    return FORMATS.get(suffixes[-1] if suffixes else "", "json"), packed


def is_table(name: str) -> bool:
    """Whether a file's name ends as one of the formats does."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes][-2:]
    return bool(suffixes) and (
        suffixes[-1] in FORMATS or (suffixes[-1] in COMPRESSED and len(suffixes) == 2 and suffixes[0] in FORMATS)
    )


def stem_of(name: str) -> str:
    """A file's name without what says its format, `problems` of `data/problems.jsonl.gz`."""
    path = Path(name)
    return Path(path.stem).stem if path.suffix.lower() in COMPRESSED else path.stem


def is_lines(name: str, path: str) -> bool:
    """Whether a file is JSONL that can be read from any of its lines on: not compressed, and no array."""
    if kind_of(name) != ("json", None):
        return False
    with _opened(path, name, None) as file:
        return not _is_array(_begin(file, name))


def _counts_lines(name: str) -> bool:
    return name == "-" or any(suffix.lower() in (".jsonl", ".ndjson") for suffix in Path(name).suffixes[-2:])


@contextlib.contextmanager
def _opened(
    path: str, shown: str, packed: str | None, opened: Callable[[BinaryIO], None] | None = None
) -> Iterator[Peekable]:
    if path == "-" and sys.stdin is None:
        raise UserError(f"{shown} is closed; give it rows, or name a file")
    try:
        file = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror}.") from None
    if opened:
        opened(file)
    with file if path != "-" else contextlib.nullcontext():
        try:
            yield _unpacked(file, shown, packed)
        except (EOFError, zlib.error, OSError) as error:
            what = "decompressed" if packed else "read"
            raise Damaged(f"{shown} cannot be {what} to its end: {error}; get the file again.") from None


def _unpacked(file: BinaryIO, shown: str, packed: str | None) -> Peekable:
    if packed == "gzip":
        return gzip.GzipFile(fileobj=file, mode="rb")
    if packed == "zstd":
        try:
            import pyarrow
        except ImportError:
            raise UserError(f"{shown}: reading zstd needs pyarrow; install it, or decompress the file.") from None
        return io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"))
    return file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, file))


def lines_of(file: BinaryIO | Peekable, size: int | None = None) -> Iterator[bytes | None]:
    """The lines of the next `size` bytes, None for all; None in place of a line that is too long."""
    too_long = False
    while size is None or size > 0:
        most = MAX_LINE if size is None else min(MAX_LINE, size)
        line = file.readline(most)
        if not line:
            break
        size = None if size is None else size - len(line)
        ends = line.endswith(b"\n") or len(line) < MAX_LINE
        if ends:
            yield None if too_long else line
        too_long = not ends
    if too_long:
        yield None


def without_mark(line: bytes, shown: str) -> bytes:
    """The first line of a file without its byte order mark. Raises UserError for UTF-16 and UTF-32."""
    # UTF-32's mark begins with that of UTF-16. A file of UTF-16 whose first character is NUL is not a table.
    if line.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise UserError(f"{shown} is UTF-32; convert it to UTF-8, as with `iconv -f UTF-32 -t UTF-8`.")
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{shown} is UTF-16; convert it to UTF-8, as with `iconv -f UTF-16 -t UTF-8`.")
    return line.removeprefix(codecs.BOM_UTF8)


def json_row(line: bytes | None) -> dict | Unreadable:
    """A line of JSONL; None is one that is too long."""
    if line is None:
        return Unreadable(f"the line is longer than {MAX_LINE:,} bytes")
    try:
        return _entry(json.loads(line.decode(), object_pairs_hook=_object))
    except Repeated as error:
        return Unreadable(str(error))
    except UnicodeDecodeError as error:
        return Unreadable(f"{NOT_UTF8} ({error.reason} at byte {error.start})")
    except (ValueError, RecursionError) as error:
        return Unreadable(f"the line is not JSON ({error})")


def _entry(row: object) -> dict | Unreadable:
    """A row of JSON. A list of turns is a conversation without a name, as Open-Reasoner-Zero's files have them."""
    if _is_conversation(row):
        return {"conversations": row}
    return row if isinstance(row, (dict, Unreadable)) else Unreadable(f"it is not a JSON object but {row!r:.40}")


def _is_conversation(row: object) -> bool:
    turns = row if isinstance(row, list) else []
    return bool(turns) and all(isinstance(turn, dict) and {"from", "role"} & turn.keys() for turn in turns)


def _json(file: Peekable, shown: str) -> Rows:
    if _is_array(_begin(file, shown)):
        yield from _array(file, shown)
        return
    for number, line in enumerate(lines_of(file), start=1):
        line = without_mark(line, shown) if number == 1 and line else line
        if line is None or line.strip():
            yield number, json_row(line)


def _begin(file: Peekable, shown: str) -> bytes:
    """The first bytes of a file, which stay to be read."""
    return without_mark(file.peek(1), shown).lstrip()


def _is_array(begin: bytes) -> bool:
    """Whether a text is an array of rows rather than one row."""
    if not begin.startswith(b"["):
        return False
    line, ended, _ = begin.partition(b"\n")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return bool(ended) or not TURN.match(begin)
    return not _is_conversation(found) and (not found or any(isinstance(one, (dict, list)) for one in found))


def _array(file: Peekable, shown: str) -> Rows:
    """The entries of an array."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    text = decode.decode(file.read(CHUNK)).removeprefix("\ufeff").lstrip().removeprefix("[")
    at, number, size, complete = 0, 0, CHUNK, False
    while True:
        between = BETWEEN.match(text, at)
        at = between.end() if between else at
        if text.startswith("]", at):
            return
        error: Exception = ValueError("it ends before the array does")
        try:
            row, end = _value(text, at) if at < len(text) else (None, len(text) + 1)
            if complete and end <= len(text) or end < len(text):  # a number may continue in text that is not read yet
                at, number, size = end, number + 1, CHUNK
                yield number, _entry(row)
                continue
        except (ValueError, RecursionError) as reason:
            error = reason
        if complete or len(text) - at > MAX_LINE:
            raise Damaged(
                f"{shown} is not a JSON array after row {number} ({error}); give one array, or one object a line."
            )
        more = file.read(size)
        text, at, complete, size = text[at:] + decode.decode(more, not more), 0, not more, 2 * size


def _value(text: str, at: int) -> tuple[object, int]:
    """The entry of an array that begins here, or why it cannot be read, and where it ends."""
    try:
        row, end = STRICT(text, at)
    except Repeated as error:
        return Unreadable(str(error)), PLAIN(text, at)[1]
    return row if _is_unicode(text[at:end]) else Unreadable(NOT_UTF8), end


def _is_unicode(text: str) -> bool:
    """Whether a text is without the surrogates that represent bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _csv(file: Peekable, shown: str, delimiter: str) -> Rows:
    csv.field_size_limit(MAX_LINE)
    first = file.readline(MAX_LINE)
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    lines = itertools.chain([without_mark(first, shown).decode(errors="surrogateescape")], text)
    record: list[str] = []  # the lines of the row that is being read
    try:
        # Strict: a quote that is not closed would make one field of all the rows behind it.
        reader = csv.DictReader(_noted(lines, record), delimiter=delimiter, strict=True)
        names = [name for name in reader.fieldnames or () if name]
        if len(names) == 1 and (other := next((one for one in ",;\t" if one != delimiter and one in names[0]), None)):
            raise UserError(
                f"{shown} has {SEPARATORS[other]} between its columns; separate them by {SEPARATORS[delimiter]}"
            )
        _check_names(shown, names)
        for number in itertools.count(1):
            record.clear()
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "".join(record).count('"') % 2:  # an open field may continue in the next lines
                    raise
                yield number, Unreadable(f"its quotes are not as in CSV ({error})")
                continue
            yield number, _record(row)
    except csv.Error as error:
        raise Damaged(f"{shown} is no {'TSV' if delimiter == chr(9) else 'CSV'} file: {error}.") from None


def _noted(lines: Iterable[str], record: list[str]) -> Iterator[str]:
    """The lines, each put into `record` when it is read."""
    for line in lines:
        record.append(line)
        yield line


def _check_names(shown: str, names: list[str]) -> None:
    """Raise UserError for two columns of one name, or a name that is not valid Unicode."""
    if repeated := next((name for name, count in Counter(names).items() if count > 1), ""):
        raise UserError(f"{shown} has {names.count(repeated)} columns named {repeated!r:.60}; rename or drop one.")
    if not all(map(_is_unicode, names)):
        raise UserError(f"{shown} is not valid UTF-8 in the names of its columns; convert it to UTF-8.")


def _record(row: dict) -> dict | Unreadable:
    if None in row or None in row.values():
        return Unreadable("it has another number of fields than the first line")
    try:
        found = {name: _cell(name, value) for name, value in row.items()}
        return found if all(map(_is_unicode, row.values())) else Unreadable(NOT_UTF8)
    except ValueError as error:
        return Unreadable(str(error))


def _cell(name: str, value: str) -> Any:
    """A field of CSV: lists are JSON, an empty field of another column than the gold is none."""
    if name in LISTS and value.strip()[:1] == "[":
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"its `{name}` is not JSON ({error})") from None
    return value if value or name == "gold" else None


def parquet_rows(file: str | Peekable, shown: str, groups: Iterable[int] | None = None, before: int = 0) -> Rows:
    """The rows of a Parquet file, or of some of its row groups. before: rows in front of these.

    Where a row group is damaged, the rows of it that were not read yet are each unreadable.
    """
    pyarrow = _pyarrow(shown, "Parquet")
    try:
        table = pyarrow.parquet.ParquetFile(file if isinstance(file, str) else _seekable(file))
    except (pyarrow.ArrowException, OSError) as error:
        raise Damaged(f"{shown} is not a Parquet file: {first_line(error)}.") from None
    _check_names(shown, table.schema_arrow.names)
    number = before
    for group in range(table.metadata.num_row_groups) if groups is None else groups:
        end = number + table.metadata.row_group(group).num_rows
        try:
            for batch in table.iter_batches(BATCH_ROWS, row_groups=[group], use_threads=False):
                for row in _batch_rows(batch):
                    number += 1
                    yield number, row
        except (pyarrow.ArrowException, OSError) as error:
            while number < end:
                number += 1
                yield number, Unreadable(f"row group {group} is damaged ({first_line(error):.200})")


def _arrow(file: Peekable, shown: str) -> Rows:
    """As `datasets` keeps a set on disk: an IPC stream, or an IPC file."""
    pyarrow = _pyarrow(shown, "Arrow")
    number = 0
    try:
        seekable = _seekable(file)
        begin = seekable.read(6)
        seekable.seek(0)
        if begin == b"ARROW1":
            table = pyarrow.ipc.open_file(seekable)
            batches = (table.get_batch(index) for index in range(table.num_record_batches))
        else:
            table = batches = pyarrow.ipc.open_stream(seekable)
        _check_names(shown, table.schema.names)
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH_ROWS):
                for row in _batch_rows(batch.slice(start, BATCH_ROWS)):
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        raise Damaged(f"{shown} is not an Arrow file after row {number}: {first_line(error)}.") from None


def _pyarrow(shown: str, what: str) -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{shown}: reading {what} needs pyarrow; install it, or give JSONL.") from None
    return pyarrow


def _seekable(file: Peekable) -> io.BufferedIOBase:
    """The file, or its content on the disk where going back in it is impossible or slow."""
    if not isinstance(file, gzip.GzipFile) and file.seekable():
        return file
    copy = cast(io.BufferedIOBase, tempfile.TemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(file, copy, CHUNK)
    copy.seek(0)
    return copy


def _batch_rows(batch: "pyarrow.RecordBatch") -> list[dict | Unreadable]:
    batch = _as_written(batch)
    try:
        return batch.to_pylist()
    except (UnicodeDecodeError, OverflowError, ValueError):
        return [_single_row(batch.slice(index, 1)) for index in range(batch.num_rows)]


def _as_written(batch: "pyarrow.RecordBatch") -> "pyarrow.RecordBatch":
    """A batch whose floats of 32 bits are the shortest of 64 bits: 0.1 in place of 0.10000000149011612."""
    import pyarrow

    for place, field in enumerate(batch.schema):
        if field.type == pyarrow.float32():
            exact = batch.column(place).cast(pyarrow.string()).cast(pyarrow.float64())
            batch = batch.set_column(place, pyarrow.field(field.name, exact.type), exact)
    return batch


def _single_row(batch: "pyarrow.RecordBatch") -> dict | Unreadable:
    try:
        return batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        return Unreadable(f"{NOT_UTF8} ({error.reason} at byte {error.start})")
    except (OverflowError, ValueError) as error:  # a date that Python does not have, a field that is there twice
        return Unreadable(f"it has a value that cannot be read ({first_line(error)})")
