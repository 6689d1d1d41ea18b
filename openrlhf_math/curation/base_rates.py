"""`curate --pass-rate`: how often a model solves each problem, from a run of `openrlhf-math eval`, as a column."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from openrlhf_math import former_names
from openrlhf_math.data.files import atomic_write
from openrlhf_math.data.problems import named_columns, read_rows, read_set
from openrlhf_math.errors import UserError
from openrlhf_math.runs.records import finite, read_object

COMPLETIONS = "completions.jsonl"
BINS = 10


@dataclass(frozen=True)
class BaseRates:
    """What was joined. rates: of the problems that the run has, 0 to 1. missing: problems that it does not have.

    ungraded: completions that could not be graded, and count as wrong. path: the file that was written.
    """

    rates: list[float]
    missing: int
    ungraded: int
    path: Path

    def histogram(self) -> list[tuple[str, int]]:
        """Problems by pass rate: never, in tenths between, always."""
        between = [0] * BINS
        for rate in self.rates:
            if 0 < rate < 1:
                between[int(rate * BINS)] += 1
        steps = [(f"{n / BINS:.0%} to {(n + 1) / BINS:.0%}", count) for n, count in enumerate(between)]
        return [("never", self.rates.count(0)), *steps, ("always", self.rates.count(1))]


def add_base_rates(run: Path, source: str, problem_key: str | None, output: Path) -> BaseRates:
    """Write the rows of `source` into `output`/problems.jsonl, with `pass_rate` and `attempts` added to their columns.

    run: an output directory of `openrlhf-math eval` (of several benchmarks, too), or a file of completions. Problems
    are joined by their text; one that the run does not have gets pass_rate null and attempts 0.
    Raises UserError for a run that is not finished or a file that is none, and if no problem is in both.
    """
    counts, ungraded = read_counts(completion_files(run))
    rates, missing = [], 0
    output.mkdir(parents=True, exist_ok=True)
    with atomic_write(output / "problems.jsonl") as file:
        columns = named_columns(problem_key, None)
        for _, raw, row in read_set(source, "train", columns, needed=("problem",)):
            correct, attempts = counts.get(row.problem.strip(), (0, 0))
            rate = correct / attempts if attempts else None
            if rate is None:
                missing += 1
            else:
                rates.append(rate)
            line = raw | {"pass_rate": rate, "attempts": attempts}
            file.write(json.dumps(finite(line), default=str) + "\n")
        if not rates:
            raise UserError(
                f"--pass-rate {run}: none of its problems is in --source {source}; evaluate the same problems, with "
                f"`openrlhf-math eval --benchmark {source} --samples 8 --temperature 1`"
            )
    return BaseRates(rates, missing, ungraded, output / "problems.jsonl")


def completion_files(run: Path) -> list[Path]:
    """Those of each benchmark of a run. Raises UserError if there are none, or some benchmark of the run is not done.

    The summary names the benchmarks; a directory below may also be another run, of another model.
    """
    if run.is_file():
        return [run]
    summary = read_object(run / "summary.json")
    if not summary and (run / "journal.jsonl").exists():
        raise UserError(f"--pass-rate {run}: the evaluation is not finished; the same `eval` command continues it")
    if isinstance(benchmarks := summary.get("benchmarks"), dict):
        files = [run / name / COMPLETIONS for name in benchmarks]
    elif summary or (run / COMPLETIONS).exists():
        files = [run / COMPLETIONS]
    else:
        files = sorted(run.glob(f"*/{COMPLETIONS}"))
    if missing := [path for path in files or [run / COMPLETIONS] if not path.exists()]:
        raise UserError(
            f"--pass-rate {run}: there is no {missing[0].relative_to(run)} in it; give the --output of "
            "`openrlhf-math eval`"
        )
    return files


def read_counts(files: list[Path]) -> tuple[dict[str, tuple[int, int]], int]:
    """Correct completions and all by the problem's text, and how many could not be graded."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    ungraded = 0
    for path in files:
        for number, row in enumerate(read_rows(str(path), "train"), start=1):
            problem, outcome = row.get("problem"), row.get("outcome")
            if not isinstance(problem, str) or not isinstance(outcome, str):
                raise UserError(
                    f"--pass-rate {path} row {number}: there is no problem with an outcome, as `eval` writes"
                )
            counts[problem.strip()][0] += outcome == "correct"
            counts[problem.strip()][1] += 1
            ungraded += former_names.outcome(outcome) == "ungraded"
    return {problem: (correct, attempts) for problem, (correct, attempts) in counts.items()}, ungraded
