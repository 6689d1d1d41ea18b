"""What a distillation yielded: counts at each step, by source and by difficulty. Pure functions."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from openrlhf_math.distill.collect import CORRECT, SET_ASIDE, UNDECIDED, WRONG, Verdicts
from openrlhf_math.distill.questions import Task

JUDGED = (CORRECT, WRONG, UNDECIDED)


@dataclass(frozen=True, slots=True)
class Yield:
    """One group of problems. covered: problems with a kept trace. tokens: of all its replies, where told."""

    problems: int
    attempts: int
    answered: int
    refused: int
    correct: int
    kept: int
    covered: int
    tokens: int

    def as_row(self) -> dict:
        """As a row of a table, with the shares that are asked for."""
        return {
            "problems": self.problems,
            "attempts": self.attempts,
            "answered": self.answered,
            "refused": self.refused,
            "correct": self.correct,
            "kept": self.kept,
            "refused_rate": self.refused / self.attempts,
            "correct_rate": self.correct / self.attempts,
            "yield": self.covered / self.problems,
            "tokens_per_kept": self.tokens / self.kept if self.kept else None,
        }


def yields(tasks: list[Task], verdicts: Verdicts, kept: Counter[str], group: Callable[[Task], str]) -> dict[str, Yield]:
    """The yield of each group, in the order of the groups' names. kept: traces kept, by problem key."""
    members: dict[str, list[Task]] = {}
    for task in tasks:
        members.setdefault(group(task), []).append(task)
    of_task: dict[str, list] = {}
    for (key, _), verdict in verdicts.items():
        of_task.setdefault(key, []).append(verdict)
    return {name: _yield(members[name], of_task, kept) for name in sorted(members, key=_by_number)}


def outcomes(verdicts: Verdicts) -> dict[str, int]:
    """How many attempts ended how, the commonest first."""
    counts = Counter(verdict.outcome for verdict in verdicts.values())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _yield(tasks: list[Task], of_task: dict[str, list], kept: Counter[str]) -> Yield:
    verdicts = [verdict for task in tasks for verdict in of_task[task.key]]
    counts = Counter(verdict.outcome for verdict in verdicts)
    answered = len(verdicts) - counts[SET_ASIDE]
    return Yield(
        problems=len(tasks),
        attempts=len(verdicts),
        answered=answered,
        refused=answered - sum(counts[outcome] for outcome in JUDGED),
        correct=counts[CORRECT],
        kept=sum(kept[task.key] for task in tasks),
        covered=sum(kept[task.key] > 0 for task in tasks),
        tokens=sum(verdict.tokens or 0 for verdict in verdicts),
    )


def _by_number(name: str) -> tuple[float, str]:
    """2 before 10, and numbers before words."""
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name
