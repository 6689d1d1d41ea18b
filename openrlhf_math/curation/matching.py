"""The second and third task: pairs of rows that may be one problem, and which of them are.

Nothing here holds more than a range of keys, or the texts of some pairs, at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from openrlhf_math.curation.alike import candidates, compare, sorted_pairs
from openrlhf_math.curation.inputs import Piece
from openrlhf_math.curation.job import Job
from openrlhf_math.curation.normalise import Form
from openrlhf_math.curation.suspects import JUDGED
from openrlhf_math.rewards import UnparsableGold, parse_gold
from openrlhf_math.rewards.same import equivalent

# Keys that are sorted in memory at once: how many ranges there are follows from it, not how much memory.
KEYS_A_RANGE = 1_000_000
_PAIRS_AT_ONCE = 50_000

# A row, the earliest row that is the same problem, and how alike they are.
DUPLICATE = np.dtype([("row", np.uint64), ("first", np.uint64), ("similarity", np.float64)])


def pair_range(job: Job, ranges: int, index: int) -> dict:
    """Pairs of rows that share one of the keys of a range of all keys. The later row comes first."""
    low, high = (index * 2**64) // ranges, ((index + 1) * 2**64) // ranges - 1
    slices = []
    for piece in job.pieces:
        both = np.load(job.workplace.file("keys", piece.index, ".npy"), mmap_mode="r")
        start = np.searchsorted(both[:, 0], np.uint64(low), "left")
        stop = np.searchsorted(both[:, 0], np.uint64(high), "right")
        slices.append(np.array(both[start:stop]))
    both = np.concatenate(slices)
    del slices
    both = both[~np.isin(both[:, 1], np.load(job.workplace.root / JUDGED))]
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
            if later not in found and (alike := _same(read[later], read[earlier], job.settings.near)):
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


@dataclass(frozen=True, slots=True)
class _Text:
    """What is compared of a row. value: the gold as an exact number, "" if it is none. gold: as the source writes
    it."""

    form: Form
    value: str
    gold: str


def _same(later: _Text, earlier: _Text, near: float) -> float:
    """How alike two problems are, 0 if they are two.

    Rows whose golds differ are two, whatever their texts. Where the texts differ in words that nothing explains, the
    golds must be there and equal, and the texts alike to `near`.
    """
    found = compare(later.form, earlier.form)
    if found.verdict == "other" or found.verdict == "near" and found.likeness < near:
        return 0.0
    known = bool(later.gold and earlier.gold)
    if found.verdict == "near" and not known or known and not same_gold(later, earlier):
        return 0.0
    return found.likeness


def same_gold(one: _Text, other: _Text) -> bool:
    """Whether two golds are one answer: as numbers, as texts, or as the grader compares them, in either direction."""
    if one.value and other.value:
        return one.value == other.value
    first, second = (_chosen(text) for text in (one, other))
    if first == second:
        return True
    try:
        golds = parse_gold(first).text, parse_gold(second).text
    except UnparsableGold:
        return False
    return golds[0] == golds[1] or equivalent(*golds) and equivalent(*reversed(golds))


def _chosen(text: _Text) -> str:
    """The gold; in place of an option's letter the option."""
    gold = text.gold.strip().strip("().").strip()
    place = ord(gold) - ord("A") if len(gold) == 1 else -1
    return text.form.options[place] if 0 <= place < len(text.form.options) else text.gold.strip()


class _Texts:
    """The texts of any rows, from files that are mapped, not read: a row costs the pages it is on."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def read(self, ids: np.ndarray) -> dict[int, _Text]:
        read = {}
        pieces = ids >> np.uint64(32)
        for index in np.unique(pieces).tolist():
            wanted = ids[pieces == np.uint64(index)]
            with pa.memory_map(str(self.job.workplace.file("texts", index, ".arrow"))) as mapped:
                table = pa.ipc.open_file(mapped).read_all()
                rows = table.take(np.searchsorted(table["id"].to_numpy(), wanted)).to_pydict()
            for row_id, text, options, drawing, names, value, gold in zip(*rows.values(), strict=True):
                one = Form(text.split(), tuple(options), drawing, frozenset(names.split()))
                read[row_id] = _Text(one, value, gold)
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
    for name in DUPLICATE.names or ():
        everywhere[name] = found[name]
    everywhere["kept"] = kept
    order = np.lexsort((found["row"], kept))
    root = job.workplace.root
    job.workplace.write_array(root / "duplicates.npy", everywhere)
    job.workplace.write_array(root / "kept_for.npy", np.stack([kept, found["row"]], axis=1)[order])
