"""How hard problems are: columns of the problem set, read when a run is set up and kept with its prompts."""

import json
import re
from pathlib import Path

import numpy as np

from openrlhf_math.data.columns import MISSING, look, number_of
from openrlhf_math.data.problems import Problem, read_rows
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.problems.completion_limit import value_at

NUMBER_AT_THE_END = re.compile(r"-?\d+(?:\.\d+)?$")  # MATH writes "Level 3"


def read_labels(args: GRPOArguments, sets: dict[str, list[Problem]]) -> dict[str, dict[int, dict[str, float]]]:
    """`difficulty` and `pass_rate` of the training problems by set and row, where the run has columns for them.

    Raises UserError for a missing column, for a row whose value is not a number (a pass rate: from 0 to 1), and for a
    first stage with fewer problems than a batch.
    """
    settings = args.math.curriculum
    keys = {"difficulty": settings.difficulty_key, "pass_rate": settings.pass_rate_key}
    columns = {name: column for name, column in keys.items() if column}
    labels: dict[str, dict[int, dict[str, float]]] = {}
    if not columns:
        return labels
    for spec in (spec.strip() for spec in args.data.prompt_dataset.split(",")):
        wanted = {problem.row for problem in sets[spec]}
        rows = enumerate(read_rows(spec, args.data.prompt_split), start=1)
        labels[spec] = {number: _labels(spec, number, row, columns) for number, row in rows if number in wanted}
    _check_first_stage(args, labels)
    return labels


def _labels(spec: str, number: int, row: dict, columns: dict[str, str]) -> dict[str, float]:
    values = {}
    for name, column in columns.items():
        if (given := look(row, column)) is MISSING:
            raise UserError(
                f"{spec} row {number} has no column '{column}', only {', '.join(row)}; name it with --math.{name}_key"
            )
        value = as_number(given)
        if value is None and name == "pass_rate" and given is None:
            continue  # not measured
        if value is None or (name == "pass_rate" and not 0 <= value <= 1):
            wanted = "a number from 0 to 1" if name == "pass_rate" else "a number"
            raise UserError(f"{spec} row {number}: '{column}' is {given!r:.40}, not {wanted}; fix or drop the row")
        values[name] = value
    if "difficulty" not in columns and "pass_rate" in values:
        values["difficulty"] = 1 - values["pass_rate"]
    return values


def as_number(value: object) -> float | None:
    """A finite number, the number a text ends with ("Level 3"), or a share ("3/8"); None if there is none."""
    if isinstance(value, str):
        found = NUMBER_AT_THE_END.search(value.strip())
        value = number_of(value) if "/" in value else float(found[0]) if found else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        return None
    return float(value)


def _check_first_stage(args: GRPOArguments, labels: dict[str, dict[int, dict[str, float]]]) -> None:
    stages = args.math.curriculum.stages
    if not stages:
        return
    most = args.data.max_samples  # of each set, and of all
    used = [row for rows in labels.values() for row in list(rows.values())[:most]][:most]
    values = [row.get("difficulty", np.nan) for row in used]
    hardest = value_at(stages, 0)
    there = int(np.sum(np.array(values) <= hardest))
    if there < args.rollout.batch_size:
        raise UserError(
            f"--math.curriculum_stages begins with difficulty up to {hardest:g}, which {there} problems have, fewer "
            f"than --rollout.batch_size {args.rollout.batch_size}; begin with a higher one (they go from "
            f"{np.nanmin(values):g} to {np.nanmax(values):g})"
        )


def of_run(args: GRPOArguments, problems: int) -> tuple[np.ndarray, np.ndarray]:
    """Difficulty and base pass rate of the run's problems in OpenRLHF's order, float64 [problems], NaN where unknown.

    problems: how many there are. Raises ValueError if the run's prompts are others.
    """
    columns = ([row.get(name) for row in rows_of_run(args, problems)] for name in ("difficulty", "pass_rate"))
    difficulty, base = (np.array(values, dtype=np.float64) for values in columns)  # None becomes NaN
    return difficulty, base


def rows_of_run(args: GRPOArguments, problems: int) -> list[dict]:
    """The rows of the run's prompts in OpenRLHF's order. Raises ValueError if there are not as many as `problems`."""
    rows: list[dict] = []
    for path in args.data.prompt_dataset.split(","):
        with Path(path).open() as file:
            rows += [json.loads(line) for line in file][: args.data.max_samples]
    rows = rows[: args.data.max_samples]
    if len(rows) != problems:
        raise ValueError(f"the run's prompts are {len(rows)} rows, OpenRLHF has {problems} of them")
    return rows
