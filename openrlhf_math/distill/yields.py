"""What a distillation yielded: counts at each step, by source and by difficulty, and the yield curve as a picture."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from openrlhf_math.distill.collect import CORRECT, GRADED, SET_ASIDE, Verdict, Verdicts
from openrlhf_math.distill.questions import Task


@dataclass(frozen=True, slots=True)
class Yield:
    """One group of problems. covered: problems with a kept trace. tokens: of all its replies, None unless the teacher
    has given those of each."""

    problems: int
    attempts: int
    answered: int
    refused: int
    correct: int
    kept: int
    covered: int
    tokens: int | None

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
            "tokens_per_kept": self.tokens / self.kept if self.kept and self.tokens is not None else None,
        }


def yields(tasks: list[Task], verdicts: Verdicts, kept: Counter[str], group: Callable[[Task], str]) -> dict[str, Yield]:
    """The yield of each group, in the order of the groups' names. kept: traces kept, by problem key."""
    members: dict[str, list[Task]] = {}
    for task in tasks:
        members.setdefault(group(task), []).append(task)
    return {name: _yield(members[name], verdicts, kept) for name in sorted(members, key=_by_number)}


@dataclass(frozen=True, slots=True)
class Point:
    """What the first `attempts` of every problem brought. asked: problems that had so many.

    solved: problems with a correct trace among them. tokens: of all their replies, None unless the teacher has given
    those of each.
    """

    attempts: int
    asked: int
    solved: int
    problems: int
    correct: int
    tokens: int | None

    def as_row(self) -> dict:
        return asdict(self) | {"solved_rate": self.solved / self.problems}


def yield_curve(verdicts: Verdicts) -> list[Point]:
    """What each further attempt brought, from the first on."""
    points, solved, correct = [], set(), 0
    replies: list[Verdict] = []
    for number in range(max(map(len, verdicts.values()))):
        at_this = {key: had[number] for key, had in verdicts.items() if len(had) > number}
        right = {key for key, verdict in at_this.items() if verdict.outcome == CORRECT}
        solved |= right
        correct += len(right)
        replies += at_this.values()
        points.append(Point(number + 1, len(at_this), len(solved), len(verdicts), correct, _tokens(replies)))
    return points


def outcomes(verdicts: Verdicts) -> dict[str, int]:
    """How many attempts ended how, the commonest first."""
    counts = Counter(verdict.outcome for had in verdicts.values() for verdict in had)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _yield(tasks: list[Task], verdicts: Verdicts, kept: Counter[str]) -> Yield:
    attempts = [verdict for task in tasks for verdict in verdicts[task.key]]
    counts = Counter(verdict.outcome for verdict in attempts)
    answered = len(attempts) - counts[SET_ASIDE]
    return Yield(
        problems=len(tasks),
        attempts=len(attempts),
        answered=answered,
        refused=answered - sum(counts[outcome] for outcome in GRADED),
        correct=counts[CORRECT],
        kept=sum(kept[task.key] for task in tasks),
        covered=sum(kept[task.key] > 0 for task in tasks),
        tokens=_tokens(attempts),
    )


def _tokens(verdicts: Iterable[Verdict]) -> int | None:
    """Of all replies; None where one has no number of tokens. What is set aside has brought no reply."""
    known = [verdict.tokens for verdict in verdicts if verdict.outcome != SET_ASIDE]
    return None if None in known else sum(filter(None, known))


def _by_number(name: str) -> tuple[float, str]:
    """2 before 10, and numbers before words."""
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name


def plot_yield(points: list[Point], path: Path) -> None:
    """Draw the problems solved by the number of attempts, and how many problems had so many. Raises ImportError."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    attempts = [one.attempts for one in points]
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    axes.plot(attempts, [one.solved / one.problems for one in points], "o-", label="solved: at least one correct trace")
    asked = [one.asked / one.problems for one in points]
    axes.bar(attempts, asked, color="tab:grey", alpha=0.3, label="had so many attempts")
    axes.set(title="Yield by attempts", xlabel="attempts at a problem", ylabel="problems", ylim=(0, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
