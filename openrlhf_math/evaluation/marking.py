"""Completions marked: each graded, those of a problem grouped by their answers."""

from dataclasses import dataclass

from openrlhf_math.evaluation.recorded import Judged, Row
from openrlhf_math.rerank.classes import GraderSays, group
from openrlhf_math.rewards import Grade, GradingPool


@dataclass(frozen=True, slots=True)
class Tally:
    """What the figures need of a problem. well_formed, truncated: of every completion, None where nobody knows."""

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


def mark(row: Row, pool: GradingPool) -> Marked:
    """Grade every completion of a problem, and tell which of them give the same answer."""
    grades = [pool.grade_now(response, row.gold, row.problem) for response in row.responses]
    says = GraderSays(pool, row.problem)
    classes = group([grade.answer for grade in grades], says)
    judged = Judged(
        place=row.place,
        classes=classes,
        correct=[grade.outcome == "correct" for grade in grades],
        scores=row.scores,
        tokens=row.tokens,
        unanswered=classes.count(None),
        undecided=sum(grade.outcome == "undecided" for grade in grades),
        apart=says.undecided,
        confidence=row.confidence,
    )
    return Marked(row, grades, judged)
