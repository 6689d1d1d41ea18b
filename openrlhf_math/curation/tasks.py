"""What one task does: from the files of the stage before to files of its own.

read      a piece of an input: rows into the schema, filters, benchmarks -> rows, texts, keys, what was set aside
pair      a range of keys over all pieces                                -> pairs of rows that may be the same problem
verify    the pairs of a piece                                           -> the duplicates among its rows
write     a piece, its duplicates taken out                              -> a file of the dataset
"""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openrlhf_math.curation.decontaminate import BenchmarkIndex, BenchmarkProblem, Hit
from openrlhf_math.curation.filters import Filter, find_filter
from openrlhf_math.curation.inputs import BATCH_ROWS, Piece, Unreadable, reader_of, rows_of
from openrlhf_math.curation.near_duplicates import BANDS, THRESHOLD, band_keys, candidates, similarity, sorted_pairs
from openrlhf_math.curation.normalise import tokens
from openrlhf_math.curation.schema import COLUMNS, BrokenRow, Row
from openrlhf_math.curation.settings import CurationSettings
from openrlhf_math.curation.sources import Reader
from openrlhf_math.curation.workplace import Workplace
from openrlhf_math.rewards import UnparsableGold, parse_gold

_TEXTS = pa.schema([("id", pa.uint64()), ("text", pa.string()), ("value", pa.string())])
DUPLICATE = np.dtype([("row", np.uint64), ("first", np.uint64), ("similarity", np.float64)])
# Keys that are sorted in memory at once: how many ranges there are follows from it, not how much memory.
KEYS_A_RANGE = 1_000_000
_PAIRS_AT_ONCE = 50_000


@dataclass(frozen=True)
class Job:
    """All that a task must know."""

    settings: CurationSettings
    output: Path
    pieces: tuple[Piece, ...]
    benchmark_digest: str = ""

    @property
    def workplace(self) -> Workplace:
        return Workplace(self.output)


# read ---------------------------------------------------------------------------------------------------------------


def read_piece(job: Job, piece: Piece) -> dict:
    """Counts: rows, rejected, filtered {filter: rows}, contaminated {benchmark: rows}, kept, seconds {step: s}."""
    counts: Counter[str] = Counter()
    filtered: Counter[str] = Counter()
    contaminated: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    all_keys, all_ids = [], []
    with _PieceFiles(job.workplace, piece) as files:
        rows = _timed(rows_of(piece), seconds, "read")
        while batch := list(islice(rows, BATCH_ROWS)):
            clock = _Clock(seconds)
            kept = list(_rows_that_pass(job, piece, batch, files, counts, filtered))
            clock.lap("filter")
            words = [tokens(row.problem) for _, row in kept]
            clock.lap("normalise")
            keys = band_keys(words)
            clock.lap("minhash")
            clean = list(range(len(kept)))
            if piece.input.role == "source" and job.settings.benchmarks:
                clean = _clean(job, kept, words, keys, files, contaminated)
                clock.lap("decontaminate")
            ids = np.array([piece.first_id + kept[index][0] - piece.first - 1 for index in clean], np.uint64)
            files.add([kept[index] for index in clean], [words[index] for index in clean], ids)
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
            "kept": counts["kept"],
            "seconds": dict(seconds),
        },
    )


def _rows_that_pass(job: Job, piece: Piece, batch, files: "_PieceFiles", counts: Counter, filtered: Counter):
    """The rows of a batch that can be read and that every filter keeps, with their numbers."""
    read = reader_of(piece.input, job.settings.columns)
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


def read_row(read: Reader, raw: dict | Unreadable) -> Row:
    """A row in the schema. Raises BrokenRow, whatever is wrong with it: no row may cost another."""
    if isinstance(raw, str):
        raise BrokenRow(raw)
    try:
        return read(raw)
    except BrokenRow:
        raise
    except Exception as error:  # values of any type may stand in a column, and a reader may be the user's own
        raise BrokenRow(f"it cannot be read ({type(error).__name__}: {error!s:.200})") from error


def _first_to_drop(tests: list[tuple[str, Filter]], row: Row, settings: CurationSettings) -> tuple[str, str]:
    for name, test in tests:
        try:
            reason = test(row, settings.limits)
        except Exception as error:  # as above: it may be the user's own
            raise BrokenRow(f"filter {name} failed ({type(error).__name__}: {error!s:.200})") from error
        if reason:
            return name, reason
    return "", ""


def _clean(job: Job, kept, words, keys, files: "_PieceFiles", contaminated: Counter) -> list[int]:
    """Which rows of a batch hold no benchmark problem; every hit is noted."""
    index = _benchmarks(job.output, job.benchmark_digest, job.settings)
    clean = []
    for position, (number, row) in enumerate(kept):
        hit = index.find(words[position], keys[position])
        dropped = hit is not None and (hit.same_numbers or job.settings.overlap.drop_other_numbers)
        if hit:
            files.note("contamination", {"row": number} | _described(hit, row, dropped))
        if dropped:
            contaminated[hit.problem.benchmark] += 1
        else:
            clean.append(position)
    return clean


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


def benchmark_file(output: Path) -> Path:
    return Workplace(output).root / "benchmarks.jsonl"


@lru_cache(maxsize=1)
def _benchmarks(output: Path, digest: str, settings: CurationSettings) -> BenchmarkIndex:
    """Once a process. digest: so that a run with other benchmarks in the same process has another index."""
    with open(benchmark_file(output), encoding="utf-8") as file:
        problems = [BenchmarkProblem(**json.loads(line)) for line in file]
    return BenchmarkIndex(problems, settings.overlap)


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
        self.texts = self.stack.enter_context(pa.ipc.new_file(self.paths["texts"], _TEXTS))
        self.notes = {name: self._lines(name) for name in ("rejects", "filtered", "contamination")}
        return self

    def _lines(self, name: str):
        path = self.stack.enter_context(self.workplace.replaced(self.workplace.file(name, self.piece.index, ".jsonl")))
        return self.stack.enter_context(path.open("w", encoding="utf-8"))

    def __exit__(self, *error) -> None:
        self.stack.__exit__(*error)

    def note(self, name: str, what: dict) -> None:
        place = {"source": self.piece.input.name, "file": self.piece.input.file}
        self.notes[name].write(json.dumps(place | what, ensure_ascii=False) + "\n")

    def reject(self, number: int, reason: str, raw) -> None:
        self.note("rejects", {"row": number, "reason": reason, "beginning": excerpt(raw)})

    def add(self, kept: list[tuple[int, Row]], words: list[list[str]], ids: np.ndarray) -> None:
        texts, values = [" ".join(one) for one in words], [_value(row.answer) for _, row in kept]
        self.texts.write_batch(pa.record_batch([pa.array(ids), texts, values], schema=_TEXTS))
        if self.piece.input.role == "source":
            self.rows.write_table(pa.Table.from_pylist([self._columns(*one) for one in kept], schema=COLUMNS))

    def add_keys(self, keys: list[np.ndarray], ids: list[np.ndarray]) -> None:
        """uint64[keys, 2] in order of the keys, so that any range of them is one slice of the file."""
        both = np.stack([np.concatenate(keys), np.concatenate(ids)], axis=1) if keys else np.empty((0, 2), np.uint64)
        with open(self.paths["keys"], "wb") as file:
            np.save(file, both[np.lexsort((both[:, 1], both[:, 0]))])

    def _columns(self, number: int, row: Row) -> dict:
        own = {name: getattr(row, name) for name in Row.__slots__ if name != "flaw"}
        return own | {"source": self.piece.input.name, "file": self.piece.input.file, "row": number, "also_in": []}


def excerpt(raw) -> str:
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


class _Clock:
    def __init__(self, seconds: Counter) -> None:
        self.seconds, self.since = seconds, time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step] += now - self.since
        self.since = now


def _timed(rows: Iterator, seconds: Counter, step: str) -> Iterator:
    while True:
        since = time.perf_counter()
        row = next(rows, None)
        seconds[step] += time.perf_counter() - since
        if row is None:
            return
        yield row


# pair ---------------------------------------------------------------------------------------------------------------


def pair_range(job: Job, index: int, ranges: int) -> dict:
    """Pairs of rows that share one of the keys of a range of all keys. The later row stands first."""
    low, high = (index * 2**64) // ranges, ((index + 1) * 2**64) // ranges - 1
    slices = []
    for piece in job.pieces:
        both = np.load(job.workplace.file("keys", piece.index, ".npy"), mmap_mode="r")
        start = np.searchsorted(both[:, 0], np.uint64(low), "left")
        stop = np.searchsorted(both[:, 0], np.uint64(high), "right")
        slices.append(np.array(both[start:stop]))
    both = np.concatenate(slices)
    del slices
    pairs = candidates(both[:, 0], both[:, 1])
    job.workplace.write_array(job.workplace.file("pairs", index, ".npy"), pairs)
    return job.workplace.finish("pair", index, {"pairs": len(pairs)})


# verify -------------------------------------------------------------------------------------------------------------


def verify_piece(job: Job, piece: Piece, ranges: int) -> dict:
    """The duplicates among the rows of a piece, each with the earliest row whose problem it is."""
    texts = _Texts(job)
    found: dict[int, tuple[int, float]] = {}
    pairs = _pairs_of(job, piece, ranges)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = pairs[start : start + _PAIRS_AT_ONCE]
        read = texts.read(np.unique(part))
        for later, earlier in part.tolist():
            if later not in found and (alike := _same(read[later], read[earlier])):
                found[later] = earlier, alike
    rows = np.array([(row, *found[row]) for row in sorted(found)], DUPLICATE)
    job.workplace.write_array(job.workplace.file("duplicates", piece.index, ".npy"), rows)
    return job.workplace.finish("verify", piece.index, {"pairs": len(pairs), "duplicates": len(rows)})


def _pairs_of(job: Job, piece: Piece, ranges: int) -> np.ndarray:
    low, high = piece.first_id, piece.first_id + (1 << 32)
    parts = []
    for index in range(ranges):
        pairs = np.load(job.workplace.file("pairs", index, ".npy"), mmap_mode="r")
        start, stop = np.searchsorted(pairs[:, 0], np.array([low, high], np.uint64))
        parts.append(np.array(pairs[start:stop]))
    return sorted_pairs(np.concatenate(parts))


def _same(later: tuple[list[str], str], earlier: tuple[list[str], str]) -> float:
    """How alike two problems are, 0 if they are two. Texts that differ, and golds that are other numbers, are two."""
    alike = similarity(later[0], earlier[0])
    if alike < THRESHOLD or alike < 1 and later[1] and earlier[1] and later[1] != earlier[1]:
        return 0.0
    return alike


class _Texts:
    """The texts of any rows, from files that are mapped, not read: a row costs the pages it stands on."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def read(self, ids: np.ndarray) -> dict[int, tuple[list[str], str]]:
        """id -> (tokens, gold as a number)."""
        read = {}
        pieces = ids >> np.uint64(32)
        for index in np.unique(pieces).tolist():
            wanted = ids[pieces == np.uint64(index)]
            with pa.memory_map(str(self.job.workplace.file("texts", index, ".arrow"))) as mapped:
                table = pa.ipc.open_file(mapped).read_all()
                rows = table.take(np.searchsorted(table["id"].to_numpy(), wanted)).to_pydict()
            for row_id, text, value in zip(rows["id"], rows["text"], rows["value"], strict=True):
                read[row_id] = text.split(), value
        return read


# write --------------------------------------------------------------------------------------------------------------


def write_piece(job: Job, piece: Piece, number: int, total: int) -> dict:
    """The rows of a piece without its duplicates, as file `number` of `total`; and a line on each duplicate."""
    workplace = job.workplace
    everywhere = np.load(workplace.root / "duplicates.npy", mmap_mode="r")
    start, stop = np.searchsorted(everywhere["row"], np.array([piece.first_id, piece.first_id + (1 << 32)], np.uint64))
    own = everywhere[start:stop]
    also_in = _also_in(job, piece)
    lines = (json.dumps(_line(job, piece, one), ensure_ascii=False) + "\n" for one in own)
    with workplace.replaced(workplace.file("duplicate_lines", piece.index, ".jsonl")) as path:
        path.write_text("".join(lines), encoding="utf-8")
    written = 0
    if number < total:
        target = job.output / "data" / f"train-{number:05d}-of-{total:05d}.parquet"
        with (
            workplace.replaced(target) as path,
            pq.ParquetWriter(path, COLUMNS, compression="zstd") as writer,
            pq.ParquetFile(workplace.file("rows", piece.index, ".parquet")) as rows,
        ):
            for batch in rows.iter_batches(BATCH_ROWS, use_threads=False):
                ids = (batch["row"].to_numpy() + (piece.first_id - piece.first - 1)).astype(np.uint64)
                kept = ~np.isin(ids, own["row"])
                batch = batch.filter(pa.array(kept))
                lists = pa.array([also_in.get(one, []) for one in ids[kept].tolist()], pa.list_(pa.string()))
                batch = batch.set_column(COLUMNS.get_field_index("also_in"), COLUMNS.field("also_in"), lists)
                writer.write_batch(batch)
                written += batch.num_rows
    return workplace.finish("write", piece.index, {"written": written})


def _also_in(job: Job, piece: Piece) -> dict[int, list[str]]:
    """For the rows of a piece: where their duplicates stand."""
    by_kept = np.load(job.workplace.root / "kept_for.npy", mmap_mode="r")
    start, stop = np.searchsorted(by_kept[:, 0], np.array([piece.first_id, piece.first_id + (1 << 32)], np.uint64))
    found: dict[int, list[str]] = {}
    for kept, dropped in by_kept[start:stop].tolist():
        found.setdefault(kept, []).append(place(job, dropped))
    return found


def place(job: Job, row_id: int) -> str:
    return job.pieces[row_id >> 32].place(row_id)


def _line(job: Job, piece: Piece, one: np.void) -> dict:
    row_id, kept = int(one["row"]), int(one["kept"])
    return {
        "source": piece.input.name,
        "file": piece.input.file,
        "row": row_id - piece.first_id + piece.first + 1,
        "how": how(one["similarity"]),
        "similarity": round(float(one["similarity"]), 4),
        "same_as": place(job, int(one["first"])),
        "kept": place(job, kept),
        "against": job.pieces[kept >> 32].input.role == "against",
    }


def how(alike: float) -> str:
    return "exact" if alike == 1 else "near"
