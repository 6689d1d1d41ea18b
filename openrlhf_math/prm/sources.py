"""Where step labels come from: the settings of a labelling, and the registry.

A source is a function from the settings to labelled solutions, in an order that is the same every time, and to the rows
it cannot use. A user's own is given by its dotted path, `package.module.function`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from openrlhf_math.prm.rows import Rejected, Solution
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
        for name in ("completions", "max_tokens", "max_context", "concurrency", "tensor_parallel"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} {value}: give 1 or more")
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
    """What people said of steps, in files of PRM800K's form. https://arxiv.org/abs/2305.20050"""
    from openrlhf_math.prm.prm800k import read_prm800k

    for file in settings.files:
        yield from read_prm800k(file, settings.neutral)


@register_source("tiny-world")
def tiny_world(settings: LabelSettings, listen: Listener) -> Iterator[Solution | Rejected]:
    """Attempts at the tiny world's problems, checked by a program."""
    from openrlhf_math.prm.tiny_world import label_by_story

    for file in settings.files:
        yield from label_by_story(file, settings.separator)
