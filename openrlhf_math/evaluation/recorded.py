"""Recorded attempts: read from a file, answers extracted, grouped and graded once."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from openrlhf_math.data.columns import gold_in, label_of
from openrlhf_math.data.problems import completion_rows
from openrlhf_math.data.tables import Keys
from openrlhf_math.errors import UserError
from openrlhf_math.rerank.aggregate import Scores
from openrlhf_math.rerank.answer_clusters import GraderSays, group
from openrlhf_math.rerank.confidence import ROUNDING, Figures
from openrlhf_math.rewards import GradingPool
from openrlhf_math.rewards.extract import extract

Found = TypeVar("Found")
Item = TypeVar("Item")

# Rows under way at once: enough to keep the workers busy while one row waits for a hostile answer.
WINDOW = 32


@dataclass(frozen=True, slots=True)
class Row:
    """A problem with its attempts. scores, tokens, truncated: one for every response, None if the row has none.

    labels: what results are broken down by, such as {"difficulty": "5"}. tool: of every response what was done with the
    tool, as a row has it. confidence: of the model in each response.
    """

    place: str
    problem: str | None
    gold: str
    responses: list[str | None]
    scores: list[Scores] | None
    tokens: list[int] | None
    truncated: list[bool] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    tool: list[dict[str, float]] | None = None
    confidence: list[Figures] | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What is left of a row for voting: of every attempt its cluster, whether it is correct, its scores, tokens and
    confidence.

    unanswered, ungraded: attempts without an answer, and those that could not be graded. apart: pairs of answers
    that are kept apart because it was not decided whether they are the same.
    """

    place: str
    answer_clusters: list[int | None]
    correct: list[bool]
    scores: list[Scores] | None
    tokens: list[int] | None
    unanswered: int
    ungraded: int
    apart: int
    confidence: list[Figures] | None = None


def read_recorded(path: Path, keys: Keys | None = None) -> Iterator[Row]:
    """The rows of a file or folder. Raises UserError naming the file, or the row and what is wrong with it."""
    for place, row in completion_rows(str(path)):
        yield row_of((keys or Keys()).renamed(row), place)


def row_of(row: dict, place: str) -> Row:
    """A row as read, checked. Raises UserError naming the place and what is wrong with it."""
    for key in ("gold", "responses"):
        if key not in row:
            flag = key.removesuffix("s")
            raise UserError(f"{place} has no `{key}`; add it, or name the column that holds it with --{flag}-key.")
    gold, problem, responses = row["gold"], row.get("problem"), row["responses"]
    gold = gold_in(gold, place, "gold")
    if not isinstance(problem, (str, type(None))):
        raise UserError(f"{place}: `problem` is {problem!r:.60}, it must be text.")
    if not isinstance(responses, list) or not all(isinstance(one, (str, type(None))) for one in responses):
        raise UserError(f"{place}: `responses` is {responses!r:.60}, it must be a list of texts.")
    for key, is_one, what in LISTS:
        values = row.get(key)
        if values is None:
            continue
        if not isinstance(values, list) or not all(map(is_one, values)):
            raise UserError(f"{place}: `{key}` is {values!r:.60}, it must be a list of {what}.")
        if len(values) != len(responses):
            raise UserError(f"{place} has {len(responses)} `responses` and {len(values)} `{key}`; give one for each.")
    scores = row.get("scores")
    return Row(
        place,
        problem,
        gold,
        responses,
        scores and [_floats(one) for one in scores],
        row.get("tokens"),
        row.get("truncated"),
        {name: label for name in LABELS if (label := label_of(row.get(name))) is not None},
        confidence=row.get("confidence"),
    )


# Columns that results are broken down by.
LABELS = ("subject", "difficulty", "level")


# No confidence is larger, and a sum of such numbers is finite.
MOST_NATS = 1e100
LOGARITHMS = ("logprob", "tail_logprob", "lowest_logprob")  # of `Confidence`


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_score(value: object) -> bool:
    """A number, step scores, or null where the scorer has failed."""
    if isinstance(value, list):
        return all(step is None or _is_number(step) for step in value)
    return value is None or _is_number(value)


def _is_nats(value: object, least: float) -> bool:
    """NaN and infinity are numbers that are not known."""
    if not isinstance(value, (int, float)) or not _is_number(value):
        return False
    return not value < least and not MOST_NATS < abs(value) < math.inf


def _is_confidence(value: object) -> bool:
    """A number, or figures by name; null where unknown. Negative are log-probabilities alone: as a weight they would be
    0, all of them, and the vote a majority's."""
    figures = value if isinstance(value, dict) else {"": value}
    return all(
        one is None or _is_nats(one, -math.inf if name in LOGARITHMS else -ROUNDING) for name, one in figures.items()
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63  # as Parquet holds it


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


# What a row may have for every response.
LISTS = (
    ("scores", _is_score, "numbers or lists of numbers"),
    ("tokens", _is_count, "counts"),
    ("confidence", _is_confidence, "numbers from 0 to 1e100, or objects of figures"),
    ("truncated", _is_switch, "true and false"),
)


def _floats(score: Any) -> Scores:
    return [_float(step) for step in score] if isinstance(score, list) else _float(score)


def _float(value: float | None) -> float:
    try:
        return float("nan") if value is None else float(value)
    except OverflowError:  # an integer of more than 308 digits
        return float("inf")


def judge_all(rows: Iterable[Row], pool: GradingPool) -> Iterator[Judged]:
    """Judge many rows at a time; they come out in the order they went in."""
    return in_order(lambda row: judge(row, pool), rows, pool.config.workers + 1)


def in_order(work: Callable[[Item], Found], rows: Iterable[Item], threads: int) -> Iterator[Found]:
    """Do the work for many rows at a time; results come out in the order of the rows."""
    with ThreadPoolExecutor(threads, thread_name_prefix="judging") as executor:
        under_way: deque = deque()
        try:
            for row in rows:
                under_way.append(executor.submit(work, row))
                while under_way and (under_way[0].done() or len(under_way) > WINDOW):
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def judge(row: Row, pool: GradingPool) -> Judged:
    """Extract the answers of a row, group them, and grade each different one."""
    answers = [extract(response or "", pool.config.style).answer for response in row.responses]
    says = GraderSays(pool, row.problem)
    clusters = group(answers, says)
    responses = dict(zip(answers, row.responses, strict=True))
    responses.pop(None, None)
    grades = {answer: pool.grade_now(responses[answer], row.gold, row.problem).outcome for answer in responses}
    outcomes = [grades.get(answer, "wrong") for answer in answers]
    return Judged(
        place=row.place,
        answer_clusters=clusters,
        correct=[outcome == "correct" for outcome in outcomes],
        scores=row.scores,
        tokens=row.tokens,
        unanswered=clusters.count(None),
        ungraded=outcomes.count("ungraded"),
        apart=says.unresolved,
        confidence=row.confidence,
    )
