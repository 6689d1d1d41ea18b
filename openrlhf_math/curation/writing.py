"""The last task: a piece without its duplicates, as a file of the dataset."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openrlhf_math.curation.inputs import Piece
from openrlhf_math.curation.job import Job
from openrlhf_math.curation.suspects import JUDGED
from openrlhf_math.data.tables import BATCH_ROWS

# What is written: the row, then its place. `also_in` lists the duplicates that were dropped for it, as
# "source: file, row".
COLUMNS = pa.schema(
    [
        pa.field("problem", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("solution", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("origin", pa.string()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("subject", pa.string()),
        pa.field("difficulty", pa.float64()),
        pa.field("trace", pa.string()),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("also_in", pa.list_(pa.string()), nullable=False),
    ]
)


def write_piece(job: Job, files: Sequence[int], index: int) -> dict:
    """The rows of a piece that are left, and a line on each duplicate. files: pieces that have rows left."""
    piece = job.pieces[index]
    workplace = job.workplace
    everywhere = np.load(workplace.root / "duplicates.npy", mmap_mode="r")
    start, stop = np.searchsorted(everywhere["row"], np.array([piece.first_id, piece.first_id + (1 << 32)], np.uint64))
    duplicates = everywhere[start:stop]
    gone = np.concatenate([duplicates["row"], np.load(workplace.root / JUDGED)])
    also_in = _also_in(job, piece)
    lines = (json.dumps(_line(job, piece, one), ensure_ascii=False) + "\n" for one in duplicates)
    with workplace.replaced(workplace.file("duplicate_lines", piece.index, ".jsonl")) as path:
        path.write_text("".join(lines), encoding="utf-8")
    written = 0
    if index in files:
        target = job.output / "data" / f"train-{files.index(index):05d}-of-{len(files):05d}.parquet"
        with (
            workplace.replaced(target) as path,
            pq.ParquetWriter(path, COLUMNS, compression="zstd") as writer,
            pq.ParquetFile(workplace.file("rows", piece.index, ".parquet")) as rows,
        ):
            for batch in rows.iter_batches(BATCH_ROWS, use_threads=False):
                ids = (batch["row"].to_numpy() + (piece.first_id - piece.first - 1)).astype(np.uint64)
                kept = ~np.isin(ids, gone)
                batch = batch.filter(pa.array(kept))
                lists = pa.array([also_in.get(one, []) for one in ids[kept].tolist()], pa.list_(pa.string()))
                batch = batch.set_column(COLUMNS.get_field_index("also_in"), COLUMNS.field("also_in"), lists)
                writer.write_batch(batch)
                written += batch.num_rows
    return workplace.finish("write", piece.index, {"written": written})


def _also_in(job: Job, piece: Piece) -> dict[int, list[str]]:
    """For the rows of a piece: the places of their duplicates."""
    by_kept = np.load(job.workplace.root / "kept_for.npy", mmap_mode="r")
    start, stop = np.searchsorted(by_kept[:, 0], np.array([piece.first_id, piece.first_id + (1 << 32)], np.uint64))
    found: dict[int, list[str]] = {}
    for kept, dropped in by_kept[start:stop].tolist():
        found.setdefault(kept, []).append(job.place(dropped))
    return found


def _line(job: Job, piece: Piece, one: np.void) -> dict:
    row_id, kept = int(one["row"]), int(one["kept"])
    return {
        "source": piece.input.name,
        "file": piece.input.file,
        "row": row_id - piece.first_id + piece.first + 1,
        "how": "exact" if one["similarity"] == 1 else "near",
        "similarity": round(float(one["similarity"]), 4),
        "same_as": job.place(int(one["first"])),
        "kept": job.place(kept),
        "against": job.pieces[kept >> 32].input.role == "against",
    }
