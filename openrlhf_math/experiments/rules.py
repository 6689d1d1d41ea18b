"""Which of a teacher's traces to learn from: rules of `distill`, at equal training tokens."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openrlhf_math.evaluation.compare import Difference, Result
from openrlhf_math.experiments import figure, words
from openrlhf_math.experiments.over_seeds import Estimate, Spread, completion_tokens, differences, pass_at_1, spread
from openrlhf_math.report.table import Table

TITLE = "Rules of keeping traces, at equal training tokens"
PLAIN = "verified"  # that the others are measured against
COLOURS = ("#7a7a7a", "#1b6ca8", "#b5403a", "#3a9d5d", "#d98a1f", "#7b52ab", "#4aa3a2")


@dataclass(frozen=True, slots=True)
class Run:
    """A student that learned by one rule. tokens: it was trained on, in `traces` of `questions` problems."""

    tokens: int
    traces: int
    questions: int
    heldout: list[Result]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The runs of all seeds by one rule. against: what it has more than `PLAIN`; None for that itself."""

    name: str
    tokens: Spread
    traces: Spread
    questions: Spread
    accuracy: Estimate
    length: Estimate
    against: Difference | None


@dataclass(frozen=True, slots=True)
class Findings:
    seeds: int
    rules: list[Outcome]


def within(rows: Sequence[dict], budget: int, seed: int) -> list[dict]:
    """The rows of as many problems as `budget` tokens hold, in random order; those of one problem stay together.

    rows: with `problem` and `training_tokens`. A problem that does not fit is left out, a later one that fits is taken.
    """
    by_problem: dict[str, list[dict]] = {}
    for row in rows:
        by_problem.setdefault(row["problem"], []).append(row)
    order = list(by_problem)
    random.Random(seed).shuffle(order)
    chosen, left = [], budget
    for problem in order:
        tokens = sum(row["training_tokens"] for row in by_problem[problem])
        if tokens <= left:
            chosen += by_problem[problem]
            left -= tokens
    random.Random(seed).shuffle(chosen)
    return chosen


def analyse(runs: Mapping[str, Sequence[Run]]) -> Findings:
    """runs: by rule, one a seed; `PLAIN` is among them."""
    heldout = {name: [run.heldout for run in same] for name, same in runs.items()}
    rules = [
        Outcome(
            name=name,
            tokens=spread([run.tokens for run in same]),
            traces=spread([run.traces for run in same]),
            questions=spread([run.questions for run in same]),
            accuracy=pass_at_1(heldout[name]),
            length=completion_tokens(heldout[name]),
            against=None if name == PLAIN else differences(heldout[PLAIN], heldout[name])["pass_at_1"],
        )
        for name, same in runs.items()
    ]
    return Findings(len(runs[PLAIN]), rules)


def tables(found: Findings) -> list[Table]:
    header = [
        "rule",
        "training tokens",
        "traces",
        "questions",
        "held-out pass@1",
        f"from {PLAIN}",
        "tokens a completion",
    ]
    rows = [
        [
            one.name, *(words.over_seeds(count, 0) for count in (one.tokens, one.traces, one.questions)),
            words.share(one.accuracy), words.points(one.against) if one.against else "-", words.amount(one.length),
        ]
        for one in found.rules
    ]  # fmt: skip
    note = (
        f"{words.seeds(found.seeds)}; each rule chooses among the same replies, and its student is trained once on as "
        "many tokens of traces as the smallest of the datasets has. 95% intervals, bootstrap over the problems of all "
        "seeds; p of the paired difference."
    )
    return [Table("Each rule", header, rows, note)]


def draw(found: Findings, stem: Path) -> None:
    title = f"{TITLE}: tiny Qwen, {words.seeds(found.seeds)}"
    with figure.figure(stem, title, "95%, bootstrap over problems.", (1, 1), (9, 4)) as (axes,):
        estimates = [one.accuracy for one in found.rules]
        names = [one.name.replace(", ", ",\n") for one in found.rules]
        figure.draw_estimates(axes, names, estimates, COLOURS[: len(estimates)])
        axes.set(ylabel="held-out pass@1")
        figure.in_percent(axes)
