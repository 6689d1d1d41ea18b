"""The rows of a fine-tuning's sets: rendered, with those set aside that cannot be learned from or are too long."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

from openrlhf_math.data.conversations import BadRow, Layout, find_layout
from openrlhf_math.data.problems import read_rows
from openrlhf_math.distill.sft_render import Pieces, Renderer, Trace
from openrlhf_math.distill.sft_sets import Source
from openrlhf_math.errors import UserError

FIRST = 100  # rows by which the layout of a set is found, and which a dry run reads
BATCH = 100  # conversations that are tokenized at once
NAMED = 5  # rows set aside that are printed


@dataclass(slots=True)
class SetRows:
    """What a set gives. read: conversations. bad: those that cannot be learned from: row, why. long: those that are
    longer than the context: row, tokens."""

    source: str
    layout: Layout
    read: int = 0
    traces: list[Trace] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)
    long: list[tuple[int, int]] = field(default_factory=list)


def read_set(args: SimpleNamespace, source: Source, split: str, render: Renderer | None, most: int | None) -> SetRows:
    """The rows of a set. most: how many of its first conversations are read; None for all.

    render: None where the tokenizer is not at hand, so that only the columns and messages are checked. Raises UserError
    for a set that cannot be read or is empty, or if more rows than `--math.max_bad_rows` cannot be learned from.
    """
    rows = iter(read_rows(source.name, split))
    first = list(itertools.islice(rows, FIRST))
    if not first:
        raise UserError(f"{source.name} is empty; give a set with at least one row")
    layout = find_layout(source.name, first, source.columns, args.data.multiturn)
    found = SetRows(source.name, layout)
    numbered = enumerate(itertools.islice(itertools.chain(first, rows), most), start=1)
    for batch in _batches(numbered):
        _add(found, batch, render, args.data.max_len)
    found.bad.sort()
    if len(found.bad) > args.math.max_bad_rows * found.read:
        row, why = found.bad[0]
        some = "" if most is None else f"the first {found.read} rows of "
        raise UserError(
            f"{len(found.bad)} of {found.read} rows of {some}{source.name} cannot be learned from, the first is "
            f"{source.name} row {row}: it {why}; correct them, or raise --math.max_bad_rows above "
            f"{args.math.max_bad_rows:g}"
        )
    return found


def _batches(rows: Iterable) -> Iterator[list]:
    rows = iter(rows)
    while batch := list(itertools.islice(rows, BATCH)):
        yield batch


def _add(found: SetRows, batch: list[tuple[int, dict]], render: Renderer | None, room: int) -> None:
    """Add a batch of numbered rows to what was found."""
    found.read += len(batch)
    conversations: list[tuple[int, Pieces]] = []
    for number, row in batch:
        try:
            turns = found.layout.turns(row)
            conversations.append((number, render.pieces(turns) if render else []))
        except BadRow as error:
            found.bad.append((number, str(error)))
    if render is None:
        return
    for (number, _), traces in zip(conversations, render.rows(found.source, conversations), strict=True):
        if isinstance(traces, BadRow):
            found.bad.append((number, str(traces)))
            continue
        for trace in traces:
            if len(trace.ids) > room:
                found.long.append((number, len(trace.ids)))
            else:
                found.traces.append(trace)


def print_set(found: SetRows, max_len: int) -> None:
    """What was found in a set, and what is left out of it."""
    learned = sum(stop - start for trace in found.traces for start, stop in trace.learned)
    turns = sum(len(trace.learned) for trace in found.traces)
    print(
        f"{found.source}: columns {'+'.join(found.layout.columns)}; {found.read} conversations give "
        f"{len(found.traces)} rows with {turns} turns to learn, {learned} of "
        f"{sum(len(trace.ids) for trace in found.traces)} tokens"
    )
    for row, why in found.bad[:NAMED]:
        print(f"set aside: row {row} of {found.source} {why}")
    if len(found.bad) > NAMED:
        print(f"set aside: {len(found.bad)} of {found.read} rows of {found.source} in all")
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
