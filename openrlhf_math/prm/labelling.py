"""One labelling: from a source of labels to files that are there whole or not at all, and what is reported of it."""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from openrlhf_math.data.files import ROWS_AT_A_TIME, atomic_write, named_when_complete, write_json
from openrlhf_math.errors import UserError
from openrlhf_math.prm.rows import Rejected, Solution
from openrlhf_math.prm.sources import LabelSettings, Listener, Source
from openrlhf_math.runs.journal import refused_if_unwritable

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
    with atomic_write(path) as file:
        yield lambda solution: print(json.dumps(solution.as_row(), ensure_ascii=False), file=file)


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[Callable[[Solution], None]]:
    import pyarrow
    from pyarrow import parquet

    text, number = pyarrow.string(), pyarrow.float64()
    schema = pyarrow.schema(
        {"problem": text, "steps": pyarrow.list_(text), "labels": pyarrow.list_(number), "source": text}
    )
    waiting: list[dict] = []
    with named_when_complete(path) as unfinished, parquet.ParquetWriter(unfinished, schema, compression="zstd") as file:

        def flush() -> None:
            file.write_table(pyarrow.Table.from_pylist(waiting, schema))
            waiting.clear()

        def add(solution: Solution) -> None:
            waiting.append(solution.as_row())
            if len(waiting) == ROWS_AT_A_TIME:
                flush()

        yield add
        flush()


def label(settings: LabelSettings, source: Source, listen: Listener) -> dict:
    """Run it. Returns the report, which is also written to report.json.

    Solutions go to train.parquet, those of the held-out problems to heldout.parquet (.jsonl likewise), rows that cannot
    be used to rejects.jsonl. Raises UserError if nothing is left, or a file cannot be read or written.
    """
    output = settings.output
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with refused_if_unwritable(output), ExitStack() as stack:
        made = not output.exists()
        output.mkdir(parents=True, exist_ok=True)
        stack.callback(_leave_nothing_empty, output, made)
        files = {
            part: stack.enter_context(solution_file(output / f"{part}.{settings.format}"))
            for part in (("train", "heldout") if settings.heldout else ("train",))
        }
        rejects = stack.enter_context((output / "rejects.jsonl").open("w", encoding="utf-8"))
        seen: set[bytes] = set()
        for found in source(settings, listen):
            if isinstance(found, Rejected):
                counts["rows set aside"] += 1
                reasons[found.reason] += 1
                print(json.dumps({"place": found.place, "reason": found.reason}), file=rejects)
                continue
            if settings.distinct:
                if (digest := _digest(found)) in seen:
                    counts["repeated solutions"] += 1
                    continue
                seen.add(digest)
            part = "heldout" if is_heldout(found.problem, settings.heldout) else "train"
            files[part](found)
            _count(counts, part, found)
        if not counts["train: solutions"]:
            named = ", ".join(settings.files)
            if not reasons:
                raise UserError(f"{named}: there are no rows; give at least one")
            why = reasons.most_common(1)[0][0]
            raise UserError(f"{named}: no row could be labelled: {why}; see {output / 'rejects.jsonl'}")
    report = {"source": settings.source, "files": settings.files, "counts": counts, "reasons": reasons}
    with refused_if_unwritable(output):
        write_json(output / "report.json", report)
    return report


def _digest(solution: Solution) -> bytes:
    """The same for two solutions of a problem with the same steps, in a few bytes, as there may be millions."""
    texts = json.dumps([solution.problem, *solution.steps])
    return hashlib.sha256(texts.encode()).digest()[:16]


def _leave_nothing_empty(output: Path, made: bool) -> None:
    """Remove a list of rejects that lists nothing, if there are no labels either, and the directory that was made."""
    rejects = output / "rejects.jsonl"
    if [path.name for path in output.iterdir()] == [rejects.name] and not rejects.stat().st_size:
        rejects.unlink()
    if made and not any(output.iterdir()):
        output.rmdir()


def is_heldout(problem: str, share: float) -> bool:
    """Whether a problem is one of the held-out share. All its solutions go the same way, in every labelling."""
    digest = hashlib.sha256(f"held out: {problem}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


def _count(counts: Counter, part: str, solution: Solution) -> None:
    labels = [label for label in solution.labels if label is not None]
    counts[f"{part}: solutions"] += 1
    counts[f"{part}: labelled steps"] += len(labels)
    counts[f"{part}: of these right"] += sum(label > 0.5 for label in labels)
