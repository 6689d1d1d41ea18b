"""Two runs on the same problems: their difference, with an interval and a p-value."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.estimates import bootstrap_intervals, sign_flip_p_value


@dataclass(frozen=True, slots=True)
class Result:
    """A run's result on one problem: the share of its completions that is correct, and their mean length.

    tokens: None where the run does not know them.
    """

    problem: str
    gold: str
    accuracy: float
    tokens: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """What the second run has more than the first, mean over problems, with a 95% interval and a two-sided p-value.

    A p-value says how often a difference as large arises by chance between runs that do not differ.
    """

    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    p_value: float


def compare(first: Sequence[Result], second: Sequence[Result], seed: int) -> dict[str, Difference]:
    """pass@1, and mean completion tokens where both know them; both runs' results in the order of the problems.

    Paired: what makes a problem hard makes it hard for both, and falls out of the difference. Interval: bootstrap over
    problems. p-value: `sign_flip_p_value`.
    """
    accuracies = [np.array([one.accuracy for one in run]) for run in (first, second)]
    report = {"pass_at_1": difference(accuracies[0], accuracies[1], seed)}
    tokens = [np.array([one.tokens for one in run if one.tokens is not None]) for run in (first, second)]
    if len(tokens[0]) == len(first) and len(tokens[1]) == len(second):
        report["completion_tokens"] = difference(tokens[0], tokens[1], seed)
    return report


def difference(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Difference:
    """first, second: of each problem, float64 [problems], in the same order."""
    differences = second - first
    low, high = bootstrap_intervals(differences[:, None], seed)[0]
    return Difference(
        first=float(first.mean()),
        second=float(second.mean()),
        difference=float(differences.mean()),
        interval=(float(low), float(high)),
        p_value=sign_flip_p_value(differences, seed),
    )


def compare_runs(first: Path, second: Path, seed: int) -> dict[str, dict[str, Difference]]:
    """The differences by benchmark. Raises UserError if a run is none, or the two are on different problems."""
    runs = read_run(first), read_run(second)
    names = _common_names(*runs, first, second)
    report = {}
    for name in names:
        one, other = (run[name] if name in run else next(iter(run.values())) for run in runs)
        _check_same_problems(one, other, first, second, name)
        report[name] = compare(one, other, seed)
    return report


def read_run(run: Path) -> dict[str, list[Result]]:
    """Results by benchmark, in order of the problems. Raises UserError if `run` is not what `eval` leaves."""
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        benchmarks = summary.get("benchmarks") or {summary.get("benchmark") or "problems": summary}
        results = {}
        for name, figures in benchmarks.items():
            path = (run / name if summary.get("benchmarks") else run) / "completions.jsonl"
            results[name] = _read_results(path)
            _check_all_there(results[name], figures.get("problems"), run, path)
        return results
    except OSError as error:
        raise UserError(
            f"--compare {run}: {error.filename} cannot be read ({error.strerror}); give a directory that "
            "`openrlhf-math eval --output` has finished"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--compare {run}: its files are not those of an evaluation ({error!r:.100})") from None


def _read_results(path: Path) -> list[Result]:
    correct: dict[int, list[bool]] = {}
    tokens: dict[int, list[int | None]] = {}
    problems: dict[int, tuple[str, str]] = {}
    with path.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            number = row["problem_index"]
            problem = row["problem"]
            problems[number] = problem if isinstance(problem, str) else json.dumps(problem), row["gold"]
            correct.setdefault(number, []).append(row["outcome"] == "correct")
            tokens.setdefault(number, []).append(row["tokens"])
    return [
        Result(*problems[number], accuracy=float(np.mean(correct[number])), tokens=_mean(tokens[number]))
        for number in sorted(problems)
    ]


def _check_all_there(results: Sequence[Result], problems: int | None, run: Path, path: Path) -> None:
    """Raise UserError if the completions are of fewer problems than the figures, as of a file that was cut.

    problems: None where the summary does not have their number.
    """
    if not results or problems not in (None, len(results)):
        raise UserError(
            f"--compare {run}: {path} has completions of {len(results)} problems, and its summary.json counts "
            f"{problems}; restore the file, or leave out problems without completions and evaluate again"
        )


def _mean(values: list[int | None]) -> float | None:
    """None where one is not known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _common_names(first_run: Mapping, second_run: Mapping, first: Path, second: Path) -> list[str]:
    if len(first_run) == len(second_run) == 1:
        return list(first_run)  # one benchmark each: its problems show whether it is the same
    for run, other, path in ((first_run, second_run, second), (second_run, first_run, first)):
        missing = next((name for name in run if name not in other), None)
        if missing:
            raise UserError(f"--compare: {path} has no results on {missing}; compare runs on the same benchmarks")
    return list(first_run)


def _check_same_problems(one: Sequence[Result], other: Sequence[Result], first: Path, second: Path, name: str) -> None:
    texts = [[(result.problem, result.gold) for result in results] for results in (one, other)]
    pairs = enumerate(zip_longest(*texts))
    differs = next((number for number, (left, right) in pairs if left != right), None)
    if differs is not None:
        has = [repr(run[differs][0])[:60] if differs < len(run) else "none" for run in texts]
        raise UserError(
            f"--compare: {first} and {second} are on different problems of {name}: problem {differs} is {has[0]} in "
            f"the first and {has[1]} in the second; evaluate both on the same problems"
        )
