"""Completions marked: each graded, those of a problem grouped by their answers."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from openrlhf_math.evaluation.recorded import Judged, Row, in_order
from openrlhf_math.rerank.answer_clusters import GraderSays, group
from openrlhf_math.rerank.answer_judge import AnswerJudge, JudgeSettings
from openrlhf_math.rewards import Grade, GradingPool, RewardConfig


@dataclass(frozen=True, slots=True)
class Tally:
    """What the figures need of a problem. well_formed, truncated: of every completion, None if unknown."""

    judged: Judged
    well_formed: list[bool]
    truncated: list[bool] | None
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Marked:
    """A problem's completions, with a grade for each, in order."""

    row: Row
    grades: list[Grade]
    judged: Judged

    def tally(self) -> Tally:
        return Tally(self.judged, [grade.well_formed for grade in self.grades], self.row.truncated, self.row.labels)


def mark(row: Row, pool: GradingPool, judge: AnswerJudge | None = None) -> Marked:
    """Grade every completion of a problem, and tell which of them give the same answer.

    judge: is asked where the grader cannot tell; it groups no answers.
    """
    grades = [pool.grade_now(response, row.gold, row.problem) for response in row.responses]
    grades = judge.graded(row.problem, row.gold, grades) if judge else grades
    says = GraderSays(pool, row.problem)
    clusters = group([grade.answer for grade in grades], says)
    judged = Judged(
        place=row.place,
        answer_clusters=clusters,
        correct=[grade.outcome == "correct" for grade in grades],
        scores=row.scores,
        tokens=row.tokens,
        unanswered=clusters.count(None),
        ungraded=sum(grade.outcome == "ungraded" for grade in grades),
        apart=says.unresolved,
        confidence=row.confidence,
    )
    return Marked(row, grades, judged)


def all_marked(rows: Iterable[Row], pool: GradingPool, judge: AnswerJudge | None = None) -> Iterator[Marked]:
    """Many rows at a time, in their order."""
    threads = pool.config.workers + 1
    if judge:
        judge.begin()
        threads += judge.threads
    yield from in_order(lambda row: mark(row, pool, judge), rows, threads)


@contextlib.contextmanager
def judging(settings: JudgeSettings | None, rewards: RewardConfig, output: Path) -> Iterator[AnswerJudge | None]:
    """The judge of an evaluation while the block runs; None for none. Its journal is in the output."""
    if settings is None:
        yield None
        return
    with AnswerJudge(settings, rewards, output / "judge.jsonl") as judge:
        yield judge
