"""Attempts whose steps are to be labelled: what `eval`, `solve` and `vote` write and read."""

from collections.abc import Iterator
from dataclasses import dataclass

from openrlhf_math.prm.rows import Rejected, read_lines
from openrlhf_math.rerank.steps import split_steps


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
