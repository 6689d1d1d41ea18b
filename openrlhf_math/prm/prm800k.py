"""Files in the form of PRM800K: a line is a solution as a person labelled it, with the steps that were not taken.

https://github.com/openai/prm800k; Let's Verify Step by Step, https://arxiv.org/abs/2305.20050
"""

from collections.abc import Iterator
from typing import Any

from openrlhf_math.prm.rows import Rejected, Solution, read_lines

RIGHT, NEUTRAL, WRONG = 1, 0, -1
SOURCE = "prm800k"


def read_prm800k(file: str, neutral: float) -> Iterator[Solution | Rejected]:
    """The solutions of a file. neutral: the label of a step that is not wrong and leads nowhere."""
    for place, row in read_lines(file):
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            found = solutions(row, neutral)
        except ValueError as error:
            yield Rejected(place, str(error))
        else:
            yield from found


def solutions(row: dict, neutral: float) -> list[Solution]:
    """The solution that was labelled, and one for every other step that was proposed on the way.

    Such a step follows those that had been chosen, which have no label there: they have theirs in the first.
    The solution continues with what was chosen, or with the step a person wrote, which counts as right; where there is
    neither, it ends with the first that was proposed. Ratings may be missing. Raises ValueError, a sentence, for a row
    of another form, or a problem that the person found to be broken.
    """
    problem, label = _part(row, "question", dict).get("problem"), _part(row, "label", dict)
    if label.get("finish_reason") == "bad_problem":
        raise ValueError("the problem is broken, as its labeler says")
    path: list[tuple[str, float | None]] = []
    others: list[list[tuple[str, float | None]]] = []
    for number, step in enumerate(_part(label, "steps", list), start=1):
        if not isinstance(step, dict):
            raise ValueError(f"its step {number} is not an object")
        proposed = [_rated(each, number, neutral) for each in step.get("completions") or []]
        human, chosen = step.get("human_completion"), step.get("chosen_completion")
        ends = chosen is None and not human
        if ends:
            chosen = 0 if proposed else None
        elif chosen is not None and not (isinstance(chosen, int) and 0 <= chosen < len(proposed)):
            raise ValueError(f"the chosen_completion of its step {number} is {chosen!r:.40}, which is none of them")
        others += [[*((text, None) for text, _ in path), each] for n, each in enumerate(proposed) if n != chosen]
        if chosen is not None:
            path.append(proposed[chosen])
        elif human:
            path.append((_text(human, number), 1.0))
        if ends:
            break
    labelled = [each for each in (path, *others) if any(value is not None for _, value in each)]
    if not labelled:
        raise ValueError("none of its steps has a rating")
    return [Solution(problem, [text for text, _ in each], [label for _, label in each], SOURCE) for each in labelled]


def _rated(completion: Any, number: int, neutral: float) -> tuple[str, float | None]:
    text, rating = _text(completion, number), completion.get("rating")
    if rating is not None and rating not in (RIGHT, NEUTRAL, WRONG):
        raise ValueError(f"a rating of its step {number} is {rating!r:.40}, it must be -1, 0 or 1")
    return text, {None: None, RIGHT: 1.0, NEUTRAL: neutral, WRONG: 0.0}[rating]


def _text(completion: object, number: int) -> str:
    text = completion.get("text") if isinstance(completion, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"a completion of its step {number} has no text")
    return text.strip()


def _part(row: dict, name: str, kind: type) -> Any:
    if not isinstance(row.get(name), kind):
        raise ValueError(f"it has no `{name}` of PRM800K's form")
    return row[name]
