"""Reading problem sets into one schema."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from openrlhf_math.errors import UserError
from openrlhf_math.rewards import UnparsableGold, parse_gold

LOADERS = {".json": "json", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem with its gold answer.

    problem: text, or chat messages. source: where it is from. row: its number there, counted from 1.
    """

    problem: str | list[dict[str, str]]
    answer: str
    source: str
    row: int

    @property
    def text(self) -> str:
        """The problem as one text: its last message."""
        return self.problem if isinstance(self.problem, str) else self.problem[-1]["content"]


def read_problems(
    spec: str,
    problem_key: str,
    answer_key: str,
    split: str = "train",
    flags: tuple[str, str] = ("--data.input_key", "--data.label_key"),
) -> list[Problem]:
    """The problems of a JSONL, JSON, CSV or Parquet file, a dataset directory, or a hub name.

    spec: as OpenRLHF's --data.prompt_dataset, one set; `name@config` for a hub set with configurations.
    flags: what the command calls the two keys.
    Raises UserError for a missing or empty set, a broken line, or a missing column.
    """
    rows = list(read_rows(spec, split))
    if not rows:
        raise UserError(f"{spec} is empty; give a problem set with at least one row")
    for key in (problem_key, answer_key):
        if key not in rows[0]:
            raise UserError(
                f"{spec} has no column '{key}', only {', '.join(rows[0])}; name its columns with {flags[0]} "
                f"and {flags[1]}"
            )
    return [_problem(spec, number, row, problem_key, answer_key) for number, row in enumerate(rows, start=1)]


def _problem(spec: str, number: int, row: dict, problem_key: str, answer_key: str) -> Problem:
    problem, answer = row.get(problem_key), row.get(answer_key)
    for key, trouble in ((problem_key, trouble_of_problem(problem)), (answer_key, trouble_of_answer(answer))):
        if trouble:
            raise UserError(f"{spec} row {number}: '{key}' {trouble}; mend or drop the row")
    no_answer = answer is None or answer != answer  # NaN, which tables have for nothing
    return Problem(problem, "" if no_answer else str(answer), str(row.get("datasource", Path(spec).stem)), number)


def trouble_of_problem(problem) -> str | None:
    """What is wrong with a problem, as the end of a sentence; None if it is a text or chat messages."""
    messages = [problem]
    if isinstance(problem, list) and problem:
        if not all(isinstance(message, dict) and {"role", "content"} <= message.keys() for message in problem):
            return "is a list, but not of chat messages with 'role' and 'content'"
        messages = [message["content"] for message in problem]
    if not isinstance(messages[-1], str) or not messages[-1].strip():
        return "is empty or no text"
    return next(filter(None, map(_trouble_of_text, messages)), None)


def trouble_of_answer(answer) -> str | None:
    """As `trouble_of_problem`. No answer is for `keep_parsable` to count."""
    if isinstance(answer, (bytes, list, dict)):
        return f"is of type {type(answer).__name__}, not a text or a number"
    return _trouble_of_text(answer)


def _trouble_of_text(text) -> str | None:
    if not isinstance(text, str):
        return None
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return "is not valid Unicode (a lone surrogate)"  # which no tokenizer takes
    return "holds binary data" if "\0" in text else None


def read_rows(spec: str, split: str) -> Iterable[dict]:
    """The rows of a set as `read_problems` takes it, all columns. Raises UserError if it cannot be read."""
    suffix = Path(spec).suffix.lower()
    if suffix == ".jsonl":
        return _jsonl_rows(Path(spec))
    if (suffix in LOADERS or spec.startswith((".", "/"))) and not os.path.exists(spec):
        raise UserError(f"{spec}: there is no such file or directory")
    import datasets

    try:
        if suffix in LOADERS:
            return datasets.load_dataset(LOADERS[suffix], data_files=spec, split="train")
        if os.path.isfile(os.path.join(spec, "state.json")):
            return datasets.load_from_disk(spec)
        name, _, config = spec.partition("@")
        return datasets.load_dataset(name, config or None, split=split)
    except Exception as error:  # the library's own errors have no common class
        raise UserError(f"{spec}: cannot be read as a dataset ({str(error).splitlines()[0]})") from error


def _jsonl_rows(path: Path) -> Iterable[dict]:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}:{number}: the line is not JSON ({error}); mend or drop it") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}:{number}: the line is not a JSON object; mend or drop it")
            yield row


def keep_parsable(problems: list[Problem], max_share: float) -> tuple[list[Problem], list[Problem]]:
    """Split into problems whose gold answer can be parsed and those it cannot.

    Raises UserError if more than `max_share` (0 to 1) cannot.
    """
    kept, rejected = [], []
    for problem in problems:
        (kept if _is_parsable(problem.answer) else rejected).append(problem)
    if len(rejected) > max_share * len(problems):
        first = rejected[0]
        raise UserError(
            f"{len(rejected)} of {len(problems)} gold answers of {first.source} cannot be parsed, the first in row "
            f"{first.row} ({first.answer!r:.80}); mend them, or raise --math.max_bad_golds above {max_share}"
        )
    return kept, rejected


def _is_parsable(answer: str) -> bool:
    try:
        parse_gold(answer)
    except UnparsableGold:
        return False
    return True
