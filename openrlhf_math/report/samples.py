"""Sample completions: the same problem before and after, with the grades."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openrlhf_math import former_names
from openrlhf_math.errors import UserError
from openrlhf_math.report.runs import Evaluation, Training
from openrlhf_math.report.table import shortened
from openrlhf_math.runs.rollouts import TRAINING, read_step, step_files, whole_text

# What may become of a problem, by whether its first completion was correct before and is after.
CHANGES = {
    (False, True): "wrong, then correct",
    (True, False): "correct, then wrong",
    (True, True): "correct both times",
    (False, False): "wrong both times",
    (True,): "correct",
    (False,): "wrong",
}

NEEDED = {"problem_index", "sample", "problem", "outcome"}
MOST_GROUPS = 3  # of a run's rollouts
SHOWN_COLUMNS = (
    "step", "group", "sample", "problem", "prompt", "gold", "response", "transcript", "outcome", "extracted", "reason",
    "reward", "advantage", "tokens", "mean_log_prob", "truncated",
)  # fmt: skip
OUTCOMES = {"format": "wrong, in correct format"}  # what the grader calls it, for a person


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion and its grading, as text to be shown; not escaped."""

    evaluation: str
    response: str
    outcome: str
    answer: str
    summary: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One problem. samples: its first completion in each evaluation."""

    change: str
    problem: str
    gold: str
    samples: list[Sample]


@dataclass(frozen=True, slots=True)
class Samples:
    """counts: of all problems, by what became of their first completions; the sample of problems is not by chance."""

    title: str
    counts: dict[str, int]
    shown: list[Shown]


def samples_of(group: list[Evaluation], most: int) -> list[Samples]:
    """The first and the last of evaluations on the same problems, side by side; `most` problems of each such set."""
    sets: list[tuple[dict, list[tuple[str, str, Path]]]] = []
    for run in group:
        for benchmark, folder in run.folders.items():
            problems = _problems(folder)
            same = next((known for found, known in sets if found == problems), None)
            if same is None:
                sets.append((problems, same := []))
            same.append((run.name, benchmark, folder))
    summary = [
        _samples(same[0][1], {name: folder for name, _, folder in (same[0], same[-1])}, most) for _, same in sets
    ]
    return [one for one in summary if one.shown]


def ungraded_of(run: Training) -> Samples:
    """The first completions of a run that could not be graded."""
    shown = [
        Shown(
            change="ungraded",
            problem=f"step {row.get('step')}",
            gold=_text(row.get("gold")),
            samples=[Sample(run.name, _text(row.get("response")), "ungraded", "none", _text(row.get("reason")))],
        )
        for row in run.ungraded
    ]
    return Samples(f"{run.name}: completions that could not be graded, the first {len(shown)}", {}, shown)


def groups_of(run: Training) -> Samples | None:
    """Groups of the newest step whose rollouts are kept, those that teach first, with the best and the worst of each.

    None if none are kept. Raises UserError if the file cannot be read.
    """
    files = step_files(run.path / TRAINING)
    if not files:
        return None
    step = max(files)
    groups: dict[int, list[dict]] = {}
    for row in read_step(files[step], SHOWN_COLUMNS):
        groups.setdefault(row["group"], []).append(row)
    teach = [rows for rows in groups.values() if any(row["advantage"] for row in rows)]
    others = [rows for rows in groups.values() if not any(row["advantage"] for row in rows)]
    shown = [
        Shown(
            change="group",
            problem=_text(rows[0]["problem"] if rows[0]["problem"] is not None else rows[0]["prompt"]),
            gold=_text(rows[0]["gold"]),
            samples=[_completion(row, len(rows)) for row in _extremes(rows)],
        )
        for rows in [*teach, *others][:MOST_GROUPS]
    ]
    count = f"{len(teach)} of {len(groups)} groups of step {step} have a gradient"
    return Samples(f"{run.name}: {count}, the first {len(shown)}", {}, shown)


def _extremes(rows: list[dict]) -> list[dict]:
    """The two completions with the highest advantage and the two with the lowest, from high to low."""
    ordered = sorted(rows, key=lambda row: -(row["advantage"] or 0.0))
    return ordered if len(ordered) <= 4 else ordered[:2] + ordered[-2:]


def _completion(row: dict, size: int) -> Sample:
    outcome = row["outcome"] or "no grade"
    figures = [f"reward {row['reward']:.3g}"]
    if row["advantage"] is not None:
        figures.append(f"advantage {row['advantage']:+.3g}")
    figures.append(f"{row['tokens']:,} tokens")
    if row["mean_log_prob"] is not None:
        figures.append(f"mean log-probability {row['mean_log_prob']:.3f}")
    if row["truncated"]:
        figures.append("cut off at the limit")
    if row["reason"]:
        figures.append(_text(row["reason"]))
    name = f"completion {row['sample'] + 1} of {size}"
    return Sample(
        name, _text(whole_text(row)), OUTCOMES.get(outcome, outcome), _text(row["extracted"]), ", ".join(figures)
    )


def _samples(benchmark: str, evaluations: dict[str, Path], most: int) -> Samples:
    outcomes = [_outcomes(folder) for folder in evaluations.values()]
    changes = {
        problem: tuple(each[problem] for each in outcomes)
        for problem in outcomes[0]
        if all(problem in each for each in outcomes)
    }
    chosen = list(_in_turn(changes, most))
    rows = [_rows(folder, set(chosen)) for folder in evaluations.values()]
    shown = [
        Shown(
            change=CHANGES[changes[problem]],
            problem=_text(rows[0][problem].get("problem")),
            gold=_text(rows[0][problem].get("gold")),
            samples=[_sample(name, each[problem]) for name, each in zip(evaluations, rows, strict=True)],
        )
        for problem in chosen
    ]
    counts = Counter(CHANGES[change] for change in changes.values())
    return Samples(f"{benchmark}: {', '.join(evaluations)}", dict(counts.most_common()), shown)


def _in_turn(changes: dict[int, tuple], most: int) -> Iterator[int]:
    """Problems of each kind of change in turn, in the order of the problems."""
    kinds = [[problem for problem in changes if changes[problem] == kind] for kind in CHANGES]
    kinds = [kind for kind in kinds if kind]
    depth = 0
    while most > 0 and any(depth < len(kind) for kind in kinds):
        for kind in kinds:
            if depth < len(kind) and most > 0:
                most -= 1
                yield kind[depth]
        depth += 1


def _first_completions(folder: Path) -> Iterator[dict]:
    """Rows of the first completion of each problem. Raises UserError if the file cannot be read."""
    path = folder / "completions.jsonl"
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for number, line in enumerate(file, start=1):  # noqa: B007 (named in the error)
                row = json.loads(line)
                if not row.keys() >= NEEDED:
                    raise ValueError
                if row["sample"] == 0:
                    yield row
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, AttributeError, RecursionError):
        raise UserError(f"{path}, line {number}, is not a completion as `eval` writes it") from None


def _outcomes(folder: Path) -> dict[int, bool]:
    return {row["problem_index"]: row["outcome"] == "correct" for row in _first_completions(folder)}


def _problems(folder: Path) -> dict[int, int]:
    """By number, what distinguishes problems."""
    return {row["problem_index"]: hash(_text(row["problem"])) for row in _first_completions(folder)}


def _rows(folder: Path, chosen: set[int]) -> dict[int, dict]:
    return {row["problem_index"]: row for row in _first_completions(folder) if row["problem_index"] in chosen}


def _sample(evaluation: str, row: dict) -> Sample:
    summary = [f"reward {row.get('reward')}"]
    if isinstance(row.get("tokens"), int):
        summary.append(f"{row['tokens']:,} tokens")
    if row.get("truncated"):
        summary.append("cut off at the limit")
    if row.get("reason"):
        summary.append(_text(row["reason"]))
    response, answer = _text(row.get("response")), _text(row.get("answer"))
    outcome = _text(former_names.outcome(row.get("outcome")))
    return Sample(evaluation, response, OUTCOMES.get(outcome, outcome), answer, ", ".join(summary))


def _text(value: object) -> str:
    """As text of bounded length."""
    if value is None:
        return "none"
    return shortened(value if isinstance(value, str) else json.dumps(value))
