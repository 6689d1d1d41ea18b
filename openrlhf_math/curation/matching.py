"""The second and third task: pairs of rows that may be one problem, and which of them are.

Nothing here holds more than a range of keys, or the texts of some pairs, at once.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from openrlhf_math.curation.inputs import Piece
from openrlhf_math.curation.job import Job
from openrlhf_math.curation.near_duplicates import THRESHOLD, candidates, similarity, sorted_pairs

# Keys that are sorted in memory at once: how many ranges there are follows from it, not how much memory.
KEYS_A_RANGE = 1_000_000
_PAIRS_AT_ONCE = 50_000

# A row, the earliest row that is the same problem, and how alike they are.
DUPLICATE = np.dtype([("row", np.uint64), ("first", np.uint64), ("similarity", np.float64)])


def pair_range(job: Job, ranges: int, index: int) -> dict:
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


def verify_piece(job: Job, ranges: int, index: int) -> dict:
    """The duplicates among the rows of a piece, each with the earliest row whose problem it is."""
    piece = job.pieces[index]
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


def follow_duplicates(job: Job, sources: Sequence[int]) -> None:
    """Follow each duplicate of these pieces to the row that stays, as its own first row may be a duplicate itself.

    Leaves duplicates.npy, by duplicate, and kept_for.npy, by the row that stays. 32 bytes a duplicate are held, nothing
    a row.
    """
    parts = [np.load(job.workplace.file("duplicates", index, ".npy")) for index in sources]
    found = np.concatenate([np.empty(0, DUPLICATE), *parts])
    kept = found["first"].copy()
    while len(kept):
        at = np.minimum(np.searchsorted(found["row"], kept), len(kept) - 1)
        again = found["row"][at] == kept
        if not again.any():
            break
        kept[again] = kept[at[again]]
    everywhere = np.empty(len(found), [*DUPLICATE.descr, ("kept", np.uint64)])
    for name in DUPLICATE.names:
        everywhere[name] = found[name]
    everywhere["kept"] = kept
    order = np.lexsort((found["row"], kept))
    root = job.workplace.root
    job.workplace.write_array(root / "duplicates.npy", everywhere)
    job.workplace.write_array(root / "kept_for.npy", np.stack([kept, found["row"]], axis=1)[order])
