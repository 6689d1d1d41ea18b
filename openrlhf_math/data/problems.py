"""Reading problem sets into one schema."""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import TypeVar

from openrlhf_math.data.columns import Columns, label_of
from openrlhf_math.data.places import Extent, Place, files_of, place_of
from openrlhf_math.data.schema import BrokenRow, Row, read_row
from openrlhf_math.data.sources import reader_of, recognised
from openrlhf_math.data.tables import Unreadable, read_table, rows_of, stem_of
from openrlhf_math.data.tables import place_of as row_place
from openrlhf_math.errors import UserError
from openrlhf_math.rewards import UnparsableGold, parse_gold

FIRST_ROWS = 100  # by which the columns of a set are recognised
KEY_FLAGS = {"problem": "--problem-key", "answer": "--answer-key"}


One = TypeVar("One")


def first_of(rows: Iterable[One], most: int | None) -> Iterator[One]:
    """The first so many, however large the number is; all if it is None."""
    return islice(rows, None if most is None else min(most, sys.maxsize))


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem with its gold answer.

    problem: text, or chat messages. source: where it is from. row: its number there, counted from 1.
    """

    problem: str | list[dict[str, str]]
    answer: str
    source: str
    row: int

    @property
    def text(self) -> str:
        """The problem as one text: its last message."""
        return self.problem if isinstance(self.problem, str) else self.problem[-1]["content"]


def read_problems(
    spec: str,
    problem_key: str | None,
    answer_key: str | None,
    split: str = "train",
    needed: Iterable[str] = ("problem", "answer"),
) -> list[Problem]:
    """The problems of a set: a file, a folder, or a hub name.

    spec: `PLACE[@CONFIG][:SPLIT]`, as `data.places` takes it. problem_key, answer_key: the columns, None (or the usual
    names `problem` and `answer`) where the set's layout or the usual names are to give them. needed: what there must be
    a column for; without an answer it is "". Raises UserError for a missing or empty set, a broken row, or a missing
    column.
    """
    columns = named_columns(problem_key, answer_key)
    shown = {"problem": "--data.input_key", "answer": "--data.label_key"}
    return [problem_of(spec, number, raw, row) for number, raw, row in read_set(spec, split, columns, shown, needed)]


def named_columns(problem: str | None, answer: str | None, **others: str | None) -> Columns:
    """The columns that a user names: a flag's default, which is the usual name, names none."""
    return Columns(None if problem == "problem" else problem, None if answer == "answer" else answer, **others)


def read_set(
    spec: str,
    split: str,
    columns: Columns,
    flags: dict[str, str] = KEY_FLAGS,
    needed: Iterable[str] = ("problem", "answer"),
    name: str = "",
) -> Iterator[tuple[int, dict, Row]]:
    """The rows of a set: the number from 1, the row as it is, and as the set's layout reads it.

    columns: those that the user names. needed: what there must be a column for. name: the known set that it is.
    Raises UserError for a missing or empty set, a column that is not there, and a row that cannot be read.
    """
    place = place_of(spec, name)
    rows = _rows(place, split)
    first = list(islice(rows, FIRST_ROWS))
    if not first:
        raise UserError(f"{spec} is empty; give a problem set with at least one row")
    name = place.source.name if place.source else ""
    known = recognised(spec, [row for _, row in first], columns, name, needed, flags)
    read = reader_of(known, columns)
    for number, (where, raw) in enumerate(chain(first, rows), start=1):
        try:
            yield number, raw, read_row(read, raw)
        except BrokenRow as error:
            raise UserError(f"{_named(spec, number, where)}: {error}; fix or drop the row") from None


def _named(spec: str, number: int, where: str) -> str:
    """A row of a set for people: by its file and line where these are not the set and the row's number."""
    return f"{spec} row {number}" if where in (f"{spec}, line {number}", f"{spec}, row {number}") else where


def read_rows(spec: str, split: str) -> Iterator[dict]:
    """The rows of a set as `read_problems` takes it, all columns. Raises UserError if it, or a row, cannot be read."""
    for _, row in _rows(place_of(spec), split):
        yield row


def completion_rows(path: str, without: Iterable[str] = ()) -> Iterator[tuple[str, dict]]:
    """The rows of a file, or of all files of a folder such as a GRPO run's rollouts, each with its place.

    without: columns that are dropped. Raises UserError that names the file, or the row and what is wrong with it; for a
    file or folder without rows, too.
    """
    folder = os.path.isdir(path)
    rows = _rows(place_of(path), "train") if folder else ((place, row) for _, place, row in read_table(path))
    for place, row in rows:
        for name in without:
            row.pop(name, None)
        yield place, row


def _rows(place: Place, split: str) -> Iterator[tuple[str, dict]]:
    for where, row in rows_of_set(place, split):
        if isinstance(row, Unreadable):
            raise UserError(f"{where}: {row}; fix or drop the row")
        yield where, row


def rows_of_set(place: Place, split: str, extent: Extent | None = None) -> Iterator[tuple[str, dict | Unreadable]]:
    """The rows of all files of a set's split, each with its place; a reason in place of a broken one.

    extent: finds out how many there are.
    """
    files = files_of(place, split)
    if extent:
        extent.begin(files)
    for file in files:
        opened = partial(extent.opened, file.path) if extent else None
        for number, row in rows_of(file.name, file.path, opened):
            yield row_place(file.name, number), row


def problem_of(spec: str, number: int, raw: dict, row: Row) -> Problem:
    """A problem from what `read_set` gives."""
    source = label_of(raw.get("datasource")) or stem_of(spec)
    return Problem(row.dialogue or row.problem, row.answer, source, number)


def keep_parsable(problems: list[Problem], max_share: float) -> tuple[list[Problem], list[Problem]]:
    """Split into problems whose gold answer can be parsed and those it cannot.

    Raises UserError if more than `max_share` (0 to 1) cannot.
    """
    kept: list[Problem] = []
    rejected: list[Problem] = []
    for problem in problems:
        (kept if _is_parsable(problem.answer) else rejected).append(problem)
    if len(rejected) > max_share * len(problems):
        first = rejected[0]
        raise UserError(
            f"{len(rejected)} of {len(problems)} gold answers of {first.source} cannot be parsed, the first in row "
            f"{first.row} ({first.answer!r:.80}); correct them, or raise --math.max_bad_golds above {max_share}"
        )
    return kept, rejected


def _is_parsable(answer: str) -> bool:
    try:
        parse_gold(answer)
    except UnparsableGold:
        return False
    return True
