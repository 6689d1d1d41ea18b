"""The figures of an evaluation, out of its completions, graded and grouped by their answers. Pure functions."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openrlhf_math.evaluation.estimates import (
    bootstrap_intervals,
    bootstrap_ratio,
    pass_at_1,
    spread_over_samples,
    tokens_per_correct,
)
from openrlhf_math.evaluation.recorded import Judged, Row, in_order
from openrlhf_math.evaluation.voting import Entry, accuracies, numbers_of_attempts, passes, scores_of
from openrlhf_math.rerank.aggregate import Aggregation, aggregate
from openrlhf_math.rerank.answer_clusters import GraderSays, group
from openrlhf_math.rerank.answer_judge import AnswerJudge, JudgeSettings
from openrlhf_math.rerank.choose import best_of_n, majority, weighted
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
    """Grade every completion of a problem, and group those that give the same answer.

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


def all_marked(rows: Iterable[Row], pool: GradingPool, judge: AnswerJudge | None) -> Iterator[Marked]:
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


SUBSETS = 32  # random subsets of k completions that a rule's accuracy at k is the mean over
NOT_GIVEN = "not given"
MOST_TRUNCATED = 0.05
# Rules of choosing among k completions, each with the name of its figure. One that reads scores needs rows with them.
RULES = {"maj_at_k": Entry("majority", majority, None)}


def rules_of(tallies: Sequence[Tally], aggregation: Aggregation) -> dict[str, Entry]:
    """The rules that can be applied: those that read scores where there are any."""
    if not any(score is not None for tally in tallies for score in tally.judged.scores or ()):
        return RULES
    scored = {"weighted_at_k": ("weighted", weighted), "best_of_k": ("best_of_n", best_of_n)}
    return RULES | {name: Entry(*rule, aggregation) for name, rule in scored.items()}


def figures(tallies: Sequence[Tally], seed: int, rules: dict[str, Entry] = RULES) -> dict:
    """All figures, as plain data. Intervals are 95%, bootstrap over problems, the same resamples for all.

    samples, fewest_samples   completions of the problem with the most, and of that with the fewest
    pass_at_1            mean over problems of the share of correct completions; ci95 is its interval
    over_samples         sd and standard_error of the accuracy of one sample a problem, see
                         `estimates.spread_over_samples`; None without the same number, two or more, for all
    pass_at_k            by k, unbiased, see `estimates.pass_at_k`
    maj_at_k             by k, accuracy of a majority vote of clusters of equal answers, see `voting.accuracies`
    weighted_at_k, best_of_k   where rows have scores, the same of the vote weighted by them, and of the best score
    unscored             of a rule that reads scores, completions that have none and count as the lowest
    completion_tokens    mean over completions
    tokens_per_correct   tokens spent for one correct completion; None if none is correct
    truncation_rate      share of completions that the token limit cut off
    warnings             "truncated" where that is more than MOST_TRUNCATED: the figures are of the limit, too
    format_rate          share of completions in correct format, whatever their answer
    ungraded, unanswered, kept_apart   completions that could not be graded, or have no answer; pairs of answers that
                         could not be compared, and vote apart
    by                   problems, pass_at_1, ci95 and completion_tokens by subject and difficulty

    Figures of tokens and truncation are None where not every completion's is known.
    """
    judged = [tally.judged for tally in tallies]
    counts = [len(one.answer_clusters) for one in judged]
    ks = numbers_of_attempts(max(counts))[1:]
    solved = _shares([one.correct for one in judged])
    by_rule = accuracies(judged, list(rules.values()), ks, SUBSETS, seed)
    columns: dict[Any, np.ndarray] = {
        "pass_at_1": solved,
        **{("pass_at_k", k): column for k, column in zip(ks, passes(judged, ks).T, strict=True)},
        **{(name, k): by_rule[:, rule, at] for rule, name in enumerate(rules) for at, k in enumerate(ks)},
    }
    tokens = _known([one.tokens for one in judged], counts)
    by_completion = {
        "completion_tokens": tokens,
        "truncation_rate": _known([tally.truncated for tally in tallies], counts),
        "format_rate": _known([tally.well_formed for tally in tallies], counts),
    }
    intervals = bootstrap_intervals(np.stack(list(columns.values()), axis=1), seed).tolist()
    interval = dict(zip(columns, intervals, strict=True))

    def by_k(name: str) -> dict[str, dict]:
        return {
            str(k): {"accuracy": float(columns[name, k].mean()), "ci95": interval[name, k]} for k in ks
        }  # fmt: skip

    summary = {
        "problems": len(tallies),
        "samples": max(counts),
        "fewest_samples": min(counts),
        "pass_at_1": pass_at_1(solved[:, None]),
        "ci95": interval["pass_at_1"],
        "over_samples": _over_samples([one.correct for one in judged]),
        "pass_at_k": by_k("pass_at_k"),
        **{name: by_k(name) for name in rules},
        **_unscored(judged, rules),
        **_costs(tokens, [one.correct for one in judged], seed),
        **{name: float(_flat(values).mean()) if values else None for name, values in by_completion.items()},
        **{f"{name}_ci95": _interval_of_mean(values, seed) for name, values in by_completion.items()},
        "ungraded": sum(one.ungraded for one in judged),
        "unanswered": sum(one.unanswered for one in judged),
        "kept_apart": sum(one.apart for one in judged),
    }
    often_cut = (summary["truncation_rate"] or 0) > MOST_TRUNCATED
    summary["warnings"] = ["truncated"] if often_cut else []
    return summary | {"by": {label: _by(tallies, label, seed) for label in _labels(tallies)}}


def _over_samples(correct: list[list[bool]]) -> dict[str, float] | None:
    samples = {len(one) for one in correct}
    if len(samples) != 1 or min(samples) < 2:
        return None
    deviation, error = spread_over_samples(np.array(correct))
    return {"sd": deviation, "standard_error": error}


def _unscored(judged: Sequence[Judged], rules: dict[str, Entry]) -> dict[str, int]:
    aggregations = [entry.aggregation for entry in rules.values() if entry.aggregation is not None]
    if not aggregations:
        return {}
    return {"unscored": sum(aggregate(scores_of(one), aggregations[0])[1] for one in judged)}


def _costs(tokens: list | None, correct: list[list[bool]], seed: int) -> dict:
    if not tokens:
        return {"tokens_per_correct": None, "tokens_per_correct_ci95": None}
    spent, right = np.array(list(map(sum, tokens))), np.array(list(map(sum, correct)))
    return {
        "tokens_per_correct": tokens_per_correct(spent, right),
        "tokens_per_correct_ci95": bootstrap_ratio(spent, right, seed),
    }


def _by(tallies: Sequence[Tally], label: str, seed: int) -> dict[str, dict]:
    groups: dict[str, list[Tally]] = {}
    for tally in tallies:
        groups.setdefault(tally.labels.get(label, NOT_GIVEN), []).append(tally)
    return {name: _of_group(groups[name], seed) for name in sorted(groups, key=_natural)}


def _of_group(tallies: Sequence[Tally], seed: int) -> dict:
    judged = [tally.judged for tally in tallies]
    solved = _shares([one.correct for one in judged])
    tokens = _known([one.tokens for one in judged], [len(one.answer_clusters) for one in judged])
    return {
        "problems": len(tallies),
        "pass_at_1": float(solved.mean()),
        "ci95": bootstrap_intervals(solved[:, None], seed)[0].tolist(),
        "completion_tokens": float(_flat(tokens).mean()) if tokens else None,
    }


def _labels(tallies: Sequence[Tally]) -> list[str]:
    """The labels that distinguish problems."""
    values: dict[str, set] = {}
    for tally in tallies:
        for name, value in tally.labels.items():
            values.setdefault(name, set()).add(value)
    everywhere = {name: all(name in tally.labels for tally in tallies) for name in values}
    return [name for name, found in values.items() if len(found) > 1 or not everywhere[name]]


def _natural(name: str) -> tuple:
    """1, 2, 10, algebra, not given."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1 + (name == NOT_GIVEN), 0.0, name


def _known(values: list[list | None], counts: list[int]) -> list[list] | None:
    """The values of every completion, by problem; None where one is not known. counts: completions of each problem."""
    known = [one or [] for one in values]
    return known if [len(one) for one in known] == counts and any(known) else None


def _interval_of_mean(values: list[list] | None, seed: int) -> list | None:
    """95% interval of the mean over completions: problems are resampled, each with all its completions."""
    if not values:
        return None
    return bootstrap_ratio(np.array([sum(one) for one in values]), np.array(list(map(len, values))), seed)


def _shares(values: list[list]) -> np.ndarray:
    """The mean of each problem's values, 0 for a problem without any: [problems]."""
    return np.array([float(np.mean(one)) if len(one) else 0.0 for one in values])


def _flat(values: list[list]) -> np.ndarray:
    return np.concatenate([np.asarray(one, float) for one in values])
