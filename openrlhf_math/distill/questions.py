"""The problems of a distillation: read, deduplicated, with the columns that the report groups by."""

import hashlib
import json
from dataclasses import dataclass

from openrlhf_math.data.columns import MISSING, label_of, look
from openrlhf_math.data.problems import Problem, first_of, keep_parsable, named_columns, problem_of, read_set
from openrlhf_math.data.schema import Row
from openrlhf_math.data.sources import SOURCES
from openrlhf_math.errors import UserError

UNKNOWN = "not stated"


@dataclass(frozen=True, slots=True)
class Task:
    """A problem to be taught. key: the same for the same problem, whatever file and row has it.

    difficulty: as its set gives it; None where it does not.
    """

    key: str
    problem: Problem
    source: str
    difficulty: str | None
    licence: str


@dataclass(frozen=True, slots=True)
class Tasks:
    """What is asked, and what of the set is not: doubles, and problems whose gold answer cannot be parsed."""

    asked: list[Task]
    doubles: list[Problem]
    unparsable: list[Problem]


@dataclass(frozen=True, slots=True)
class Columns:
    """What the set calls its columns. problem, answer: as `data.problems.read_problems` takes them. The others may be
    missing."""

    problem: str | None = None
    answer: str | None = None
    source: str = "source"
    difficulty: str = "difficulty"
    licence: str = "license"


def read_tasks(spec: str, split: str, columns: Columns, licences: dict[str, str], limit: int | None) -> Tasks:
    """The tasks of a problem set, see `data.problems.read_problems`.

    licences: of sources, before what rows say and what `curate` knows of their sets. limit: only the first N.
    Raises UserError for a set, column or row at fault, or if nothing is left to ask.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--max-problems {limit} leaves no problem; give 1 or more")
    named = named_columns(columns.problem, columns.answer)
    rows = list(first_of(read_set(spec, split, named), limit))
    problems = [problem_of(spec, *row) for row in rows]
    first: dict[str, Problem] = {}
    doubles = [problem for problem in problems if first.setdefault(key_of(problem), problem) is not problem]
    asked, unparsable = keep_parsable(list(first.values()), max_share=1.0)
    if not asked:
        raise UserError(
            f"--problems {spec}: none of the gold answers can be parsed, the first is "
            f"{unparsable[0].answer!r:.60}; name their column with --answer-key, or correct them"
        )
    return Tasks([_task(one, *rows[one.row - 1][1:], columns, licences) for one in asked], doubles, unparsable)


def key_of(problem: Problem) -> str:
    """A name for a problem's text."""
    return hashlib.sha256(json.dumps(problem.problem).encode()).hexdigest()[:16]


def _task(problem: Problem, raw: dict, row: Row, columns: Columns, licences: dict[str, str]) -> Task:
    source = label_of(look(raw, columns.source)) or row.origin or problem.source
    known = SOURCES[source].licence if source in SOURCES else UNKNOWN
    licence = licences.get(source) or label_of(look(raw, columns.licence)) or known
    difficulty = look(raw, columns.difficulty)
    difficulty = row.difficulty if difficulty is MISSING and row.difficulty is not None else difficulty
    return Task(key_of(problem), problem, source, label_of(difficulty), licence)
