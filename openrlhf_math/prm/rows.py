"""What labels are made of and what is learned from: attempts, and solutions whose steps have labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openrlhf_math.data.columns import label_of
from openrlhf_math.data.places import place_of
from openrlhf_math.data.problems import rows_of_set
from openrlhf_math.data.schema import MAX_TEXT, text_error
from openrlhf_math.data.tables import Unreadable
from openrlhf_math.rerank.steps import split_steps
from openrlhf_math.runs.rollouts import MAJORITY


@dataclass(frozen=True, slots=True)
class Solution:
    """A solution with its step labels.

    labels: for each step how right it is, 0 to 1; None where it is unknown, and the step is only read. source: where
    the labels are from. Raises ValueError, a sentence, for what cannot be learned from.
    """

    problem: str
    steps: Sequence[str]
    labels: Sequence[float | None]
    source: str

    def __post_init__(self) -> None:
        if not isinstance(self.problem, str) or not self.problem.strip():
            raise ValueError("its problem is empty or no text")
        if not isinstance(self.steps, (list, tuple)) or not self.steps:
            raise ValueError("it has no steps")
        if not isinstance(self.labels, (list, tuple)) or len(self.labels) != len(self.steps):
            raise ValueError("it does not have one label for every step")
        for number, (step, label) in enumerate(zip(self.steps, self.labels, strict=True), start=1):
            if not isinstance(step, str) or not step.strip():
                raise ValueError(f"its step {number} is empty or no text")
            if label is not None and not (_is_number(label) and 0 <= label <= 1):
                raise ValueError(f"the label of its step {number} is {label!r:.40}, it must be between 0 and 1")
        if all(label is None for label in self.labels):
            raise ValueError("none of its steps has a label")

    def as_row(self) -> dict:
        """As a row of a file: texts as UTF-8 can hold them, which files with halves of surrogate pairs are not."""
        return {
            "problem": _storable(self.problem),
            "steps": [_storable(step) for step in self.steps],
            "labels": [None if label is None else float(label) for label in self.labels],
            "source": self.source,
        }


# Of a row for TRL's PRMTrainer.
TRL_COLUMNS = ("prompt", "completions", "labels")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that cannot be used. place: file and line."""

    place: str
    reason: str


def read_solution(row: dict) -> Solution:
    """A row of a file, or of TRL's form. Raises ValueError, a sentence, if it is none.

    Its steps lose the space around them, as those of a solution that is scored (`rerank.steps.split_steps`).
    """
    if "problem" not in row and all(name in row for name in TRL_COLUMNS):
        row = _of_trl(row)
    for name in ("problem", "steps", "labels"):
        if name not in row:
            raise ValueError(f"it has no `{name}`")
    steps = row["steps"]
    if isinstance(steps, list):
        steps = [step.strip() if isinstance(step, str) else step for step in steps]
    solution = Solution(row["problem"], steps, row["labels"], label_of(row.get("source")) or "")
    texts = {"problem": solution.problem, **{f"step {number}": step for number, step in enumerate(steps, start=1)}}
    for name, text in texts.items():
        if fault := text_error(text):
            raise ValueError(f"its {name} {fault}")
    if (length := sum(map(len, texts.values()))) > MAX_TEXT:  # or its tokens would be counted for minutes
        raise ValueError(f"it has {length:,} characters, at most {MAX_TEXT:,} are read")
    return solution


def _of_trl(row: dict) -> dict:
    """https://huggingface.co/docs/trl/dataset_formats#stepwise-supervision: labels are true and false."""
    labels = row["labels"]
    if isinstance(labels, list):
        labels = [float(label) if isinstance(label, bool) else label for label in labels]
    return row | {"problem": row["prompt"], "steps": row["completions"], "labels": labels}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def read_lines(spec: str, split: str = "train") -> Iterator[tuple[str, dict | Rejected]]:
    """The rows of a set as `data.problems.read_rows` takes it, each with its place.

    Raises UserError if the file or set cannot be read.
    """
    for place, row in rows_of_set(place_of(spec), split):
        yield place, Rejected(place, str(row)) if isinstance(row, Unreadable) else row


@dataclass(frozen=True, slots=True)
class Attempt:
    """A model's solution. steps: of `response`, at least one. place: file, line and number, for messages."""

    problem: str
    gold: str
    response: str
    steps: tuple[str, ...]
    place: str


def read_attempts(spec: str, separator: str) -> Iterator[Attempt | Rejected]:
    """The attempts of a file whose rows have `problem`, `gold` and `response`, or a list of them, `responses`.

    separator: see `rerank.steps.split_steps`. Raises UserError if the file cannot be read.
    """
    for place, row in read_lines(spec):
        if isinstance(row, Rejected):
            yield row
            continue
        problem, gold = row.get("problem"), row.get("gold")
        responses = row.get("responses", [row.get("response")])
        if not isinstance(problem, str) or not problem.strip():
            yield Rejected(place, "its `problem` is missing, empty or no text")
        elif not isinstance(gold, (str, int, float)) or isinstance(gold, bool):
            yield Rejected(place, "its `gold` is missing or no text")
        elif row.get("graded_by") == MAJORITY:
            yield Rejected(place, "its `gold` is the answer of a group's majority (`graded_by`), not a gold answer")
        elif not isinstance(responses, list) or not responses:
            yield Rejected(place, "it has neither `response` nor a list of `responses`")
        else:
            for number, response in enumerate(responses, start=1):
                where = f"{place}, response {number}" if "responses" in row else place
                yield _attempt(problem, str(gold), response, separator, where)


def _attempt(problem: str, gold: str, response: object, separator: str, place: str) -> Attempt | Rejected:
    if not isinstance(response, str) or not (steps := tuple(split_steps(response, separator))):
        return Rejected(place, "the response is empty or no text")
    return Attempt(problem, gold, response.replace("\r\n", "\n"), steps, place)
