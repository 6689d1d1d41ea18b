"""Where step labels come from: the settings of a labelling, and the registry.

A source is a function from the settings to labelled solutions, in an order that is the same every time, and to the rows
it cannot use. A user's own is given by its dotted path, `package.module.function`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from openrlhf_math.data.tiny_world.problems import check_lines
from openrlhf_math.data.tiny_world.server import read_story
from openrlhf_math.errors import at_least
from openrlhf_math.prm.rows import Rejected, Solution, read_attempts, read_lines
from openrlhf_math.registry import Registry
from openrlhf_math.rerank.steps import BLANK_LINE


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How Monte-Carlo labels are made.

    model        directory or hub name of a chat model
    completions  drawn from the end of every step
    hard         1 if some completion reaches the gold answer, else 0; otherwise the share that do
    concurrency  completions under way at once
    chat_date    that the chat template writes; None if it writes none
    """

    model: str
    device: str
    completions: int = 8
    hard: bool = False
    instruction: str = ""
    style: Literal["boxed", "think"] = "boxed"
    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 2048
    max_context: int | None = None
    concurrency: int = 64
    tensor_parallel: int = 1
    seed: int = 0
    chat_date: str | None = None

    def __post_init__(self) -> None:
        at_least(
            1, self, "completions", "max_tokens", "max_context", "concurrency", "tensor_parallel", error=ValueError
        )
        if self.temperature <= 0:
            raise ValueError(f"--temperature {self.temperature}: completions must differ; give more than 0")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"--top-p {self.top_p}: give more than 0, and 1 at the most")


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """A labelling. Raises ValueError for values that cannot work.

    files      to read: attempts, or labels
    output     directory of what it leaves
    separator  the text between the steps of an attempt
    neutral    the label of PRM800K's rating 0: neither wrong nor a step forward
    heldout    share of the problems whose solutions are set apart, to evaluate on
    format     "parquet" or "jsonl"
    distinct   write solutions of a problem with the same steps once
    rollouts   for Monte-Carlo labels
    """

    source: str
    files: tuple[str, ...]
    output: Path
    separator: str = BLANK_LINE
    neutral: float = 1.0
    heldout: float = 0.0
    format: str = "parquet"
    distinct: bool = False
    rollouts: RolloutSettings | None = field(default=None)

    def __post_init__(self) -> None:
        if not self.separator:
            raise ValueError("--separator is empty: give what separates steps")
        if not 0 <= self.neutral <= 1:
            raise ValueError(f"--neutral {self.neutral}: give a label between 0 and 1")
        if not 0 <= self.heldout < 1:
            raise ValueError(f"--heldout {self.heldout}: give a share, 0 or more and less than 1")


# Called with the number of finished pieces of work, and of all.
Listener = Callable[[int, int], None]
Source = Callable[[LabelSettings, Listener], Iterator[Solution | Rejected]]
SOURCES: Registry[Source] = Registry()
register_source = SOURCES.register


def find_source(name: str) -> Source:
    """A known source, or a user's own by dotted path. Raises UserError if there is none."""
    return SOURCES.find("--source", name)


@register_source("monte-carlo")
def monte_carlo(settings: LabelSettings, listen: Listener) -> Iterator[Solution | Rejected]:
    """A model continues from every step; a step is as right as its completions. https://arxiv.org/abs/2312.08935"""
    from openrlhf_math.prm.rollouts import label_by_rollouts

    yield from label_by_rollouts(settings, listen)


@register_source("prm800k")
def prm800k(settings: LabelSettings, listen: Listener) -> Iterator[Solution | Rejected]:
    """What people said of steps, in files of the form of https://github.com/openai/prm800k

    Let's Verify Step by Step, https://arxiv.org/abs/2305.20050. A line is a solution as a person labelled it, with the
    steps that were not taken.
    """
    for place, row in chain.from_iterable(map(read_lines, settings.files)):
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            found = solutions(row, settings.neutral)
        except ValueError as error:
            yield Rejected(place, str(error))
        else:
            yield from found


@register_source("tiny-world")
def tiny_world(settings: LabelSettings, listen: Listener) -> Iterator[Solution | Rejected]:
    """Attempts at the tiny world's problems, every line labelled 1 or 0 by a program."""
    for attempt in chain.from_iterable(read_attempts(file, settings.separator) for file in settings.files):
        if isinstance(attempt, Rejected):
            yield attempt
            continue
        story = read_story(attempt.problem)
        if story is None:
            yield Rejected(attempt.place, "its problem is none of the tiny world's")
        else:
            labels = [float(right) for right in check_lines(story, attempt.steps)]
            yield Solution(attempt.problem, attempt.steps, labels, "tiny-world")


RIGHT, NEUTRAL, WRONG = 1, 0, -1


def solutions(row: dict, neutral: float) -> list[Solution]:
    """The solution that was labelled in a row of PRM800K, and one for every other step that was proposed on the way.

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
    return [Solution(problem, [text for text, _ in each], [label for _, label in each], "prm800k") for each in labelled]


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
