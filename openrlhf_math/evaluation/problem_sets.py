"""What `--benchmark` names, read: a known benchmark, a file, a hub set, a user's own, or a holdout of any of these.

A set is sampled as its benchmark usually is, as the model's own generation config says, or under the poster's limit.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from openrlhf_math.data.columns import Columns
from openrlhf_math.data.places import is_here
from openrlhf_math.data.problems import Problem, keep_parsable
from openrlhf_math.data.problems import read_set as read_rows_of_set
from openrlhf_math.data.schema import Row
from openrlhf_math.data.sources import SOURCES
from openrlhf_math.data.tables import is_table, stem_of
from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.benchmarks import BENCHMARKS, R1, Sampling, find_benchmark, sampling_of, source_of
from openrlhf_math.modeling.model_folder import recommended_sampling

HOLDOUT = "holdout:"
NAME = re.compile(r"\w[\w.-]*")  # it becomes a folder's
NOT_A_NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class Question:
    """A problem to be asked. labels: what the figures are broken down by, such as {"difficulty": "5"}."""

    problem: Problem
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """The questions of one `--benchmark`.

    name: for people and folders. holdout: whether they were drawn of more. left_out: rows that their source marks as
    without an answer, or as not valid; they are not asked.
    """

    name: str
    questions: list[Question]
    sampling: Sampling
    holdout: bool = False
    left_out: int = 0

    def digest(self) -> str:
        """Changes with any problem, any gold, and their order."""
        pairs = [(question.problem.problem, question.problem.answer) for question in self.questions]
        return hashlib.sha256(repr(pairs).encode("utf-8", "backslashreplace")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Reading:
    """How sets without their own declaration are read, and how much of each.

    split          of a hub set
    columns        those the user has named
    max_problems   only the first N; None for all
    holdout        problems of a holdout
    holdout_seed   which of them
    """

    split: str = "test"
    columns: Columns = field(default_factory=Columns)
    max_problems: int | None = None
    holdout: int = 1000
    holdout_seed: int = 0


def read_sets(specs: Iterable[str], reading: Reading) -> list[ProblemSet]:
    """Raises UserError for a set, column or row at fault, and for two sets of one name."""
    sets: dict[str, ProblemSet] = {}
    for spec in specs:
        one = read_set(spec, reading)
        if one.name in sets:
            raise UserError(f"--benchmark {spec}: another one is called {one.name} too; call this one NAME={spec}")
        sets[one.name] = one
    return list(sets.values())


def read_set(spec: str, reading: Reading) -> ProblemSet:
    if spec.startswith(HOLDOUT):
        return _holdout(spec.removeprefix(HOLDOUT), reading)
    one = _all_of(spec, reading)
    kept = one.questions[: reading.max_problems]
    if not keep_parsable([question.problem for question in kept], max_share=1.0)[0]:
        raise UserError(
            f"--benchmark {spec}: none of its gold answers can be parsed, the first is "
            f"{kept[0].problem.answer!r:.60}; name their column with --answer-key, or fix them"
        )
    return replace(one, questions=kept)


def _holdout(spec: str, reading: Reading) -> ProblemSet:
    one = read_set(spec, replace(reading, max_problems=None))
    drawn = holdout(one.questions, reading.holdout, reading.holdout_seed)[: reading.max_problems]
    return replace(one, name=f"holdout-{one.name}", questions=drawn, holdout=True)


def holdout(questions: list[Question], size: int, seed: int) -> list[Question]:
    """`size` of the questions, in their order. Which ones depends on the seed and on their texts alone: not on their
    order, and more problems in the set move few of them."""
    if not 1 <= size < len(questions):
        raise UserError(
            f"--holdout {size}: the set has {len(questions)} problems; give 1 or more, and fewer than there are"
        )

    def rank(number: int) -> str:
        text = f"{seed} {questions[number].problem.problem}"
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()

    return [questions[number] for number in sorted(sorted(range(len(questions)), key=rank)[:size])]


def _all_of(spec: str, reading: Reading) -> ProblemSet:
    name, equals, place = spec.partition("=")
    if not equals or "/" in name or os.path.exists(spec):
        name, place = "", spec
    if name and not NAME.fullmatch(name):
        raise UserError(f"--benchmark {spec}: {name!r} is not a name; take letters, digits and dashes")
    if place in BENCHMARKS or _is_dotted(place):
        rows = find_benchmark(place)
        questions, left_out = _questions(place, rows())
        return ProblemSet(name or place, questions, sampling_of(rows), left_out=left_out)
    known = BENCHMARKS.get(name)
    called = source.name if (source := source_of(known) if known else SOURCES.get(name)) else ""
    found = [row for _, _, row in read_rows_of_set(place, reading.split, reading.columns, name=called)]
    questions, left_out = _questions(place, found)
    sampling = sampling_of(known) if known else Sampling()
    return ProblemSet(name or _name(place), questions, sampling, left_out=left_out)


def _is_dotted(place: str) -> bool:
    """Whether it can be nothing but a name: of a benchmark, or a dotted path."""
    return "/" not in place and not is_here(place)


def _name(place: str) -> str:
    path = Path(place.partition("@")[0])
    name = stem_of(path.name) if is_table(path.name) else path.name
    return NOT_A_NAME.sub("-", name) or "problems"


def _questions(place: str, rows: Iterable[Row]) -> tuple[list[Question], int]:
    """The questions, and how many rows are left out. Raises UserError if no row is one."""
    questions, flaws = [], []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Row):
            raise UserError(f"--benchmark {place}: its row {number} is {row!r:.40}, it must be a data.schema.Row")
        if row.flaw:
            flaws.append(row.flaw)
            continue
        problem = Problem(row.dialogue or row.problem, row.answer, _name(place), number)
        questions.append(Question(problem, labels_of(row)))
    if flaws and not questions:
        raise UserError(f"--benchmark {place}: no row can be asked (of the first, {flaws[0]}); give another set")
    return questions, len(flaws)


def labels_of(row: Row) -> dict[str, str]:
    """The subject and the difficulty (or level) of a problem, if it has them."""
    difficulty = None if row.difficulty is None else f"{row.difficulty:g}"
    labels = {"subject": row.subject, "difficulty": difficulty}
    return {name: value for name, value in labels.items() if value}


# The poster's AIME'24 figures are of completions of at most 5,048 tokens.
POSTER = {"max_tokens": 5048, **R1}
PROTOCOLS = ("model", "poster")


def recommended(protocol: str, model: str | None) -> dict[str, float]:
    """What a protocol sets in place of a benchmark's own defaults, by the fields of `Sampling`.

    `model`: the model's `generation_config.json`, as vLLM's server applies it, if it asks for sampling; its
    `max_new_tokens` in any case. Nothing for a model without one, and for None, a model behind an endpoint. Raises
    UserError if the file cannot be read.
    """
    if protocol == "poster":
        return POSTER
    return recommended_sampling("--model", model) if model else {}


def sampled(problems: ProblemSet, recommends: dict[str, float], flags: dict[str, float]) -> ProblemSet:
    """The set, sampled as its benchmark's defaults, a protocol and the user's flags say, each before the former.

    Greedy decoding without `--samples` makes one completion. Raises UserError for values that cannot work.
    """
    asked: dict[str, Any] = {**recommends, **flags}
    greedy = asked.get("temperature", problems.sampling.temperature) == 0
    if greedy and "samples" not in flags:
        asked["samples"] = 1
    try:
        return replace(problems, sampling=replace(problems.sampling, **asked))
    except ValueError as error:
        raise UserError(str(error)) from None
