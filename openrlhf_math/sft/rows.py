"""The sets that a fine-tuning names, and their rows: rendered, without those that are too long or cannot be learned.

Sets are named [KNOWN=]SET[:WEIGHT][@COLUMNS], several separated by commas. KNOWN is the name of a known set
(`data.sources`), whose layout the rows have. COLUMNS is a column of conversations, or two of prompts and responses
joined by "+". Of a set on the hub, the part behind the first "@" is its configuration, as in every command, and columns
come behind a second one.
"""

import itertools
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from openrlhf_math.data.conversations import BadRow, Layout, Turn, find_layout
from openrlhf_math.data.places import Extent, place_of
from openrlhf_math.data.problems import first_of, rows_of_set
from openrlhf_math.data.sources import SOURCES
from openrlhf_math.data.tables import Unreadable
from openrlhf_math.errors import UserError
from openrlhf_math.runs.progress import Progress, silent
from openrlhf_math.sft.render import Pieces, Renderer, Trace
from openrlhf_math.sft.settings import SFTRunArguments

FILES = (".jsonl", ".json", ".csv", ".parquet", ".arrow", ".gz", ".zst", ".zstd")
WEIGHT = re.compile(r":([\d.]+)$")


@dataclass(frozen=True, slots=True)
class Source:
    """name: as the readers take it. weight: of the draws, None where it has none. columns: None for the usual ones.

    known: the known set whose layout it has, "" where that is not said.
    """

    name: str
    weight: float | None
    columns: tuple[str | None, str | None]
    known: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it is a file or a directory of this machine, or must be one."""
        return _is_local(self.name)


def read_sources(flag: str, sets: str | None, columns: tuple[str | None, str | None]) -> list[Source]:
    """The sets of a flag's value. columns: of those that name none. Raises UserError for a wrong weight or column."""
    return [_source(flag, spec.strip(), columns) for spec in (sets or "").split(",") if spec.strip()]


def _source(flag: str, spec: str, columns: tuple[str | None, str | None]) -> Source:
    if os.path.exists(spec):
        return Source(spec, None, columns)
    known, equals, place = spec.partition("=")
    if equals and known in SOURCES:
        return replace(_source(flag, place, columns), known=known)
    name, *marked = spec.split("@")
    while marked and not os.path.exists(name) and os.path.exists(_weighed(flag, spec, f"{name}@{marked[0]}")[0]):
        name = f"{name}@{marked.pop(0)}"
    name, weight = _weighed(flag, spec, name)
    if marked and not _is_local(name):
        configuration, early = _weighed(flag, spec, marked.pop(0))
        name, weight = f"{name}@{configuration}", early if weight is None else weight
    if len(marked) > 1:
        raise UserError(f"{flag} {spec}: write it as SET:WEIGHT@COLUMNS, or NAME:WEIGHT@CONFIG@COLUMNS for the hub's")
    if marked:
        names = marked[0].split("+")
        if not all(names) or len(names) > 2:
            raise UserError(f"{flag} {spec}: '{marked[0]}' is neither one column nor two joined by +")
        columns = (names[0], names[1] if len(names) == 2 else None)
    return Source(name, weight, columns)


def _weighed(flag: str, spec: str, text: str) -> tuple[str, float | None]:
    found = WEIGHT.search(text)
    if not found or os.path.exists(text):
        return text, None
    try:
        weight = float(found[1])
    except ValueError:
        weight = 0.0
    if not weight > 0:
        raise UserError(f"{flag} {spec}: its weight {found[1]} is not a number above 0; correct it")
    return text[: found.start()], weight


def _is_local(name: str) -> bool:
    if name.startswith((".", "/")) or Path(name).suffix.lower() in FILES:
        return True
    return any(os.path.exists(path) for path in (name, name.rpartition(":")[0]) if path)  # it may name a split


def apply_weights(args: SFTRunArguments, sources: list[Source]) -> None:
    """Set `--data.dataset_probs` from the weights. Raises UserError unless all sets have one or none has."""
    weights = [source.weight for source in sources if source.weight is not None]
    if weights and args.data.dataset_probs:
        raise UserError(f"--data.dataset_probs {args.data.dataset_probs} and weights in --data.dataset; give one")
    if weights and len(weights) < len(sources):
        without = next(source.name for source in sources if source.weight is None)
        raise UserError(f"--data.dataset: {without} has no weight and others have; write {without}:1, or no weights")
    if args.data.dataset_probs:
        weights = _probabilities(args.data.dataset_probs, len(sources))
    if weights:
        args.data.dataset_probs = ",".join(repr(weight / sum(weights)) for weight in weights)


def _probabilities(text: str, sets: int) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != sets or not all(0 < one < float("inf") for one in found):
        raise UserError(f"--data.dataset_probs {text}: give {sets} numbers above 0, one for each set")
    return found


FIRST = 100  # rows by which the layout of a set is found, and which a dry run reads, or as many as a batch has
BATCH = 100  # conversations that are tokenized at once
NAMED = 5  # rows set aside that are printed
LARGE = 2000  # rows of which progress is shown


@dataclass(frozen=True, slots=True)
class Bad:
    """A conversation that cannot be learned from. row: of the set, from 1. place: its file and row or line there."""

    row: int
    place: str
    why: str


@dataclass(slots=True)
class SetRows:
    """What a set gives. read: conversations, and rows without any. bad: those that cannot be learned from. long: those
    that are longer than the context: row, tokens. whole: whether the set has no rows after those that were read."""

    source: str
    layout: Layout
    read: int = 0
    traces: list[Trace] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    long: list[tuple[int, int]] = field(default_factory=list)
    whole: bool = True


Numbered = tuple[int, tuple[str, dict | Unreadable]]


def read_set(
    args: SFTRunArguments,
    source: Source,
    split: str,
    render: Renderer | None,
    most: int | None,
    progress: Progress = silent,
) -> SetRows:
    """The rows of a set. most: how many of its first rows are read; None for all.

    render: None where the tokenizer is not at hand, so that only the columns and messages are checked. progress: is
    called with the rows of a large set that are done. Raises UserError for a set that cannot be read or is empty, or
    if more rows than `--math.max_bad_rows` cannot be read or learned from.
    """
    place, extent = place_of(source.name, source.known), Extent()
    rows = iter(rows_of_set(place, split, extent))
    first = list(itertools.islice(rows, FIRST))
    if not first:
        raise UserError(f"{source.name} is empty; give a set with at least one row")
    readable = [row for _, row in first if isinstance(row, dict)]
    if not readable:
        where, why = first[0]
        raise UserError(f"the first {len(first)} rows of {source.name} cannot be read, the first is {where}: {why}")
    known = place.source.name if place.source else ""
    found = SetRows(source.name, find_layout(source.name, readable, source.columns, args.data.multiturn, known))
    stage, done = f"reading {source.name}", 0
    for batch in _batches(enumerate(first_of(itertools.chain(first, rows), most), start=1)):
        _add(found, batch, render, args.data.max_len)
        done += len(batch)
        if done >= LARGE:
            progress(stage, done, max(done + 1, min(extent.rows(done), most or sys.maxsize)))
    if done >= LARGE:
        progress(stage, done, done)
    found.whole = next(rows, None) is None
    found.bad.sort(key=lambda bad: bad.row)
    if len(found.bad) > args.math.max_bad_rows * found.read:
        bad = found.bad[0]
        some = "" if most is None else f"the first {done} rows of "
        raise UserError(
            f"{len(found.bad)} of {found.read} conversations of {some}{source.name} cannot be learned from, the first "
            f"is in {bad.place}: it {bad.why}; correct them, or raise --math.max_bad_rows above "
            f"{args.math.max_bad_rows:g}"
        )
    return found


def _batches(rows: Iterable) -> Iterator[list]:
    rows = iter(rows)
    while batch := list(itertools.islice(rows, BATCH)):
        yield batch


def _add(found: SetRows, batch: list[Numbered], render: Renderer | None, room: int) -> None:
    """Add a batch of numbered rows, each with its place, to what was found."""
    places = {number: place for number, (place, _) in batch}
    conversations: list[tuple[int, Pieces]] = []
    for number, (_, row) in batch:
        for turns in _conversations(found.layout, row):
            found.read += 1
            try:
                if isinstance(turns, BadRow):
                    raise turns
                conversations.append((number, render.pieces(turns) if render else []))
            except BadRow as error:
                found.bad.append(Bad(number, places[number], str(error)))
    if render is None:
        return
    for (number, _), traces in zip(conversations, render.rows(found.source, conversations), strict=True):
        if isinstance(traces, BadRow):
            found.bad.append(Bad(number, places[number], str(traces)))
            continue
        for trace in traces:
            if len(trace.ids) > room:
                found.long.append((number, len(trace.ids)))
            else:
                found.traces.append(trace)


def _conversations(layout: Layout, row: dict | Unreadable) -> list[list[Turn] | BadRow]:
    if isinstance(row, Unreadable):
        return [BadRow(f"cannot be read: {row}")]
    return layout.conversations(row)


def print_set(found: SetRows, max_len: int) -> None:
    """What was found in a set, and what is left out of it."""
    learned = sum(stop - start for trace in found.traces for start, stop in trace.learned)
    turns = sum(len(trace.learned) for trace in found.traces)
    print(
        f"{found.source}: columns {found.layout.text}; {found.read} conversations give "
        f"{len(found.traces)} rows with {turns} turns to learn, {learned} of "
        f"{sum(len(trace.ids) for trace in found.traces)} tokens"
    )
    for bad in found.bad[:NAMED]:
        print(f"set aside: {bad.place}: it {bad.why}")
    if len(found.bad) > NAMED:
        print(f"set aside: {len(found.bad)} of {found.read} conversations of {found.source} in all")
    if found.long:  # OpenRLHF would cut such a row and put the end of sequence there: it teaches to stop in the middle
        print(
            f"left out: {len(found.long)} of {len(found.long) + len(found.traces)} rows are longer than --data.max_len "
            f"{max_len} (the longest has {max(tokens for _, tokens in found.long)} tokens; the first is row "
            f"{found.long[0][0]} of {found.source})"
        )


def print_counts(render: Renderer) -> None:
    """How the turns were treated."""
    for what, count in sorted(render.counts.items()):
        if count:
            print(f"rendered: {count} {what}")
