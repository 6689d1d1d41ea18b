"""The first task: a piece of an input into rows, texts and keys, and the rejected rows."""

import contextlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openrlhf_math.curation.alike import BANDS, band_keys
from openrlhf_math.curation.decontaminate import BenchmarkIndex, BenchmarkProblem, Hit, Overlap
from openrlhf_math.curation.filters import Filter, find_filter
from openrlhf_math.curation.inputs import Piece, reader_of_input, rows_of
from openrlhf_math.curation.job import Job, Workplace
from openrlhf_math.curation.normalise import Form, form
from openrlhf_math.curation.settings import CurationSettings
from openrlhf_math.curation.writing import COLUMNS
from openrlhf_math.data.schema import BrokenRow, Row, read_row
from openrlhf_math.data.tables import BATCH_ROWS
from openrlhf_math.rewards import UnparsableGold, parse_gold

# What is compared: the number of a row, its form, its gold as an exact number or "", its gold as written.
TEXTS = pa.schema(
    [
        ("id", pa.uint64()),
        ("text", pa.string()),
        ("options", pa.list_(pa.string())),
        ("drawing", pa.string()),
        ("names", pa.string()),
        ("value", pa.string()),
        ("gold", pa.string()),
    ]
)


def read_piece(job: Job, index: int) -> dict:
    """Counts: rows, rejected, filtered {filter: rows}, contaminated {benchmark: rows}, suspects, kept, seconds.

    suspects: rows like a benchmark problem that are kept.
    """
    piece = job.pieces[index]
    counts: Counter[str] = Counter()
    filtered: Counter[str] = Counter()
    contaminated: Counter[str] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    all_keys, all_ids = [], []
    with _PieceFiles(job.workplace, piece) as files:
        rows = _timed(rows_of(piece), seconds, "read")
        while batch := list(islice(rows, BATCH_ROWS)):
            clock = _Clock(seconds)
            kept = list(_rows_that_pass(job, piece, batch, files, counts, filtered))
            clock.lap("filter")
            forms = [form(row.problem) for _, row in kept]
            clock.lap("normalise")
            keys = band_keys([one.tokens for one in forms])
            clock.lap("minhash")
            clean = list(range(len(kept)))
            if piece.input.role == "source" and job.settings.benchmarks:
                clean, suspects = _clean(job, kept, forms, keys, files, contaminated)
                counts["suspects"] += suspects
                clock.lap("decontaminate")
            ids = np.array([piece.first_id + kept[index][0] - piece.first - 1 for index in clean], np.uint64)
            files.add([kept[index] for index in clean], [forms[index] for index in clean], ids)
            all_keys.append(keys[clean].ravel())
            all_ids.append(np.repeat(ids, BANDS + 1))
            counts["kept"] += len(clean)
            clock.lap("write")
        files.add_keys(all_keys, all_ids)
    return job.workplace.finish(
        "read",
        piece.index,
        {
            "rows": counts["rows"],
            "rejected": counts["rejected"],
            "filtered": dict(filtered),
            "contaminated": dict(contaminated),
            "suspects": counts["suspects"],
            "kept": counts["kept"],
            "seconds": dict(seconds),
        },
    )


def _rows_that_pass(
    job: Job,
    piece: Piece,
    batch: Iterable[tuple[int, Any]],
    files: "_PieceFiles",
    counts: Counter[str],
    filtered: Counter[str],
) -> Iterator[tuple[int, Row]]:
    """The rows of a batch that can be read and that every filter keeps, with their numbers."""
    read = reader_of_input(piece.input, job.settings.columns)
    names = job.settings.filters if piece.input.role == "source" else ()
    tests = [(name, find_filter(name)) for name in names]
    for number, raw in batch:
        counts["rows"] += 1
        try:
            row = read_row(read, raw)
            name, reason = _first_to_drop(tests, row, job.settings)
        except BrokenRow as error:
            counts["rejected"] += 1
            files.reject(number, str(error), raw)
            continue
        if reason:
            filtered[name] += 1
            files.note("filtered", {"row": number, "filter": name, "reason": reason[:300]})
        else:
            yield number, row


def _first_to_drop(tests: list[tuple[str, Filter]], row: Row, settings: CurationSettings) -> tuple[str, str]:
    for name, test in tests:
        try:
            reason = test(row, settings.limits)
        except Exception as error:  # as above: it may be the user's own
            raise BrokenRow(f"filter {name} failed ({type(error).__name__}: {error!s:.200})") from error
        if reason:
            return name, str(reason)
    return "", ""


def _clean(
    job: Job,
    kept: Sequence[tuple[int, Row]],
    forms: list[Form],
    keys: np.ndarray,
    files: "_PieceFiles",
    contaminated: Counter[str],
) -> tuple[list[int], int]:
    """Which rows of a batch hold no benchmark problem, and how many of these are like one; every hit is noted."""
    index = _benchmarks(job.benchmark_file, job.benchmark_digest, job.settings.overlap)
    clean, suspects = [], 0
    for position, (number, row) in enumerate(kept):
        hit = index.find(forms[position], keys[position])
        if hit is None:
            clean.append(position)
            continue
        dropped = hit.same or hit.how == "contains" and job.settings.overlap.drop_other_numbers
        files.note("contamination", {"row": number} | _described(hit, row, dropped))
        if dropped:
            contaminated[hit.problem.benchmark] += 1
        else:
            clean.append(position)
            suspects += 1
    return clean, suspects


def _described(hit: Hit, row: Row, dropped: bool) -> dict:
    return {
        "benchmark": hit.problem.benchmark,
        "benchmark_row": hit.problem.row,
        "how": hit.how,
        "share": round(hit.share, 4),
        "same_numbers": hit.same_numbers,
        "dropped": dropped,
        "problem": row.problem,
        "benchmark_problem": hit.problem.text,
    }


@lru_cache(maxsize=1)
def _benchmarks(path: Path, digest: str, overlap: Overlap) -> BenchmarkIndex:
    """Once a process. digest: so that a run with other benchmarks in the same process has another index."""
    with path.open(encoding="utf-8") as file:
        return BenchmarkIndex([BenchmarkProblem(**json.loads(line)) for line in file], overlap)


class _PieceFiles:
    """The files that reading a piece leaves; they take their names together, when the piece is done."""

    def __init__(self, workplace: Workplace, piece: Piece) -> None:
        self.workplace, self.piece = workplace, piece

    def __enter__(self) -> "_PieceFiles":
        self.stack = contextlib.ExitStack()
        self.paths = {
            name: self.stack.enter_context(self.workplace.replaced(self.workplace.file(name, self.piece.index, suffix)))
            for name, suffix in (("rows", ".parquet"), ("texts", ".arrow"), ("keys", ".npy"))
        }
        self.rows = self.stack.enter_context(pq.ParquetWriter(self.paths["rows"], COLUMNS, compression="zstd"))
        self.texts = self.stack.enter_context(pa.ipc.new_file(self.paths["texts"], TEXTS))
        self.notes = {name: self._lines(name) for name in ("rejects", "filtered", "contamination")}
        return self

    def _lines(self, name: str) -> TextIO:
        path = self.stack.enter_context(self.workplace.replaced(self.workplace.file(name, self.piece.index, ".jsonl")))
        return self.stack.enter_context(path.open("w", encoding="utf-8", errors="backslashreplace"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.__exit__(kind, error, trace)

    def note(self, name: str, what: dict) -> None:
        place = {"source": self.piece.input.name, "file": self.piece.input.file}
        self.notes[name].write(json.dumps(place | what, ensure_ascii=False) + "\n")

    def reject(self, number: int, reason: str, raw: object) -> None:
        self.note("rejects", {"row": number, "reason": reason, "beginning": excerpt(raw)})

    def add(self, kept: list[tuple[int, Row]], forms: list[Form], ids: np.ndarray) -> None:
        columns = [
            pa.array(ids),
            [" ".join(one.tokens) for one in forms],
            [list(one.options) for one in forms],
            [one.drawing for one in forms],
            [" ".join(sorted(one.names)) for one in forms],
            [_value(row.answer) for _, row in kept],
            [row.answer for _, row in kept],
        ]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, TEXTS, strict=True)]
        self.texts.write_batch(pa.record_batch(arrays, schema=TEXTS))
        if self.piece.input.role == "source":
            self.rows.write_table(pa.Table.from_pylist([self._columns(*one) for one in kept], schema=COLUMNS))

    def add_keys(self, keys: list[np.ndarray], ids: list[np.ndarray]) -> None:
        """uint64[keys, 2] in order of the keys, so that any range of them is one slice of the file."""
        both = np.stack([np.concatenate(keys), np.concatenate(ids)], axis=1) if keys else np.empty((0, 2), np.uint64)
        with open(self.paths["keys"], "wb") as file:
            np.save(file, both[np.lexsort((both[:, 1], both[:, 0]))])

    def _columns(self, number: int, row: Row) -> dict:
        kept = {name: getattr(row, name) for name in Row.__slots__ if name not in ("flaw", "dialogue")}
        return kept | {"source": self.piece.input.name, "file": self.piece.input.file, "row": number, "also_in": []}


def excerpt(raw: object) -> str:
    """The beginning of a broken row, as text that JSON can hold."""
    text = "" if isinstance(raw, str) else repr(raw)[:4000]
    return text[:200].encode("utf-8", "replace").decode()


def _value(answer: str) -> str:
    """The gold as an exact number, "" if it is none."""
    try:
        number = parse_gold(answer).number
    except UnparsableGold:
        return ""
    return str(number.value) if number else ""


Item = TypeVar("Item")


class _Clock:
    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.since = seconds, time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step] += now - self.since
        self.since = now


def _timed(rows: Iterator[Item], seconds: dict[str, float], step: str) -> Iterator[Item]:
    while True:
        since = time.perf_counter()
        row = next(rows, None)
        seconds[step] += time.perf_counter() - since
        if row is None:
            return
        yield row
