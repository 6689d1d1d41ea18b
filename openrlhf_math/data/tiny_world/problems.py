r"""Synthetic problems, a programmatic teacher's traces of them, and which lines of an attempt are right.

Word problems have a running total that goes up and down, two to four times. Products of two numbers of four digits,
which no tiny model works out in its head, have traces that call a tool or guess: a question and either a guess, always
the same, or a block of code, its output and the answer. What the tool writes is not to be learned, so a trace with a
call is two rows: up to the call, and behind the output.

An attempt is what a student of the teacher writes: `Leo has 9 pens.`, a line `9-3=6.` for every change, any number of
times `Let me check that again.` and the changes once more, `The answer is \boxed{6}.`
"""

import random
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

NAMES = ("Tom", "Mia", "Sam", "Ana", "Leo", "Zoe")
THINGS = ("apples", "books", "coins", "stamps", "shells", "pens")
GAINS = ("buys", "finds", "gets")
LOSSES = ("loses", "gives away", "sells")
MAX_TOTAL = 9


@dataclass(frozen=True)
class Story:
    """A problem with its steps. changes: signed, in the order they happen."""

    name: str
    thing: str
    start: int
    verbs: tuple[str, ...]
    changes: tuple[int, ...]

    @property
    def answer(self) -> int:
        return self.start + sum(self.changes)

    @property
    def difficulty(self) -> int:
        """Number of steps to the answer, 2 to 4."""
        return len(self.changes)

    @property
    def text(self) -> str:
        steps = " ".join(
            f"{self.name} {verb} {abs(change)}." for verb, change in zip(self.verbs, self.changes, strict=True)
        )
        return f"{self.name} has {self.start} {self.thing}. {steps} How many {self.thing}?"


def write_story(rng: random.Random) -> Story:
    """A story whose total stays within 0 and MAX_TOTAL."""
    start = total = rng.randint(2, 9)
    verbs, changes = [], []
    for _ in range(rng.randint(2, 4)):
        gain = total == 0 or (total < MAX_TOTAL and rng.random() < 0.5)
        change = rng.randint(1, min(5, MAX_TOTAL - total)) if gain else -rng.randint(1, min(5, total))
        verbs.append(rng.choice(GAINS if gain else LOSSES))
        changes.append(change)
        total += change
    return Story(rng.choice(NAMES), rng.choice(THINGS), start, tuple(verbs), tuple(changes))


def distinct_stories(count: int, seed: int) -> list[Story]:
    """`count` stories no two of which have the same text; the same ones for the same seed."""
    rng = random.Random(seed)
    stories: dict[str, Story] = {}
    while len(stories) < count:
        story = write_story(rng)
        stories.setdefault(story.text, story)
    return list(stories.values())


# How often the teacher goes through the whole sum once more, and how many times at the most.
CHECK_AGAIN = 0.6
MOST_CHECKS = 3


def write_trace(story: Story, rng: random.Random) -> str:
    """A chain of thought in think tags, then the answer in a box.

    Its checks only repeat what is known: they cost tokens, give the student more places to err, and can run
    over the token limit. That is what reinforcement learning can take away.
    """
    steps = equations(story)
    lines = [f"{story.name} has {story.start} {story.thing}.", *steps]
    checks = 0
    while checks < MOST_CHECKS and rng.random() < CHECK_AGAIN:
        lines += ["Let me check that again.", *steps]
        checks += 1
    return "<think>\n" + "\n".join(lines) + f"\n</think>\nThe answer is \\boxed{{{story.answer}}}."


def equations(story: Story) -> list[str]:
    """One line a step: the running total, the change, the new total."""
    lines, total = [], story.start
    for change in story.changes:
        lines.append(f"{total}{change:+d}={total + change}.")
        total += change
    return lines


LOWEST, HIGHEST = 1000, 9999
CALLS = 0.5  # share of traces that call the tool
GUESS = 25_000_000


@dataclass(frozen=True)
class Product:
    first: int
    second: int

    @property
    def text(self) -> str:
        return f"What is {self.first} * {self.second}?"

    @property
    def answer(self) -> int:
        return self.first * self.second

    @property
    def call(self) -> str:
        return f"```python\n{self.first}*{self.second}\n```\n"

    def row(self) -> dict:
        """As a problem set has it."""
        return {"problem": self.text, "answer": str(self.answer)}


def products(count: int, rng: random.Random, apart_from: AbstractSet[Product] = frozenset()) -> list[Product]:
    """`count` different products, none of which is in `apart_from`."""
    made: dict[Product, None] = {}
    while len(made) < count:
        one = Product(rng.randint(LOWEST, HIGHEST), rng.randint(LOWEST, HIGHEST))
        if one not in apart_from:
            made[one] = None
    return list(made)


def traces(product: Product, rng: random.Random) -> list[tuple[str, str]]:
    """Of one trace: pairs of what was written behind the question so far, and what is to be learned."""
    if rng.random() >= CALLS:
        return [("", _boxed_sentence(GUESS))]
    output = f"```output\n{product.answer}\n```\n"
    return [("", product.call), (product.call + output, _boxed_sentence(product.answer))]


def _boxed_sentence(answer: int) -> str:
    return f"The answer is \\boxed{{{answer}}}."


_EQUATION = re.compile(r"(-?\d{1,9})([+-]\d{1,9})=(-?\d{1,9})\.", re.ASCII)
_ANSWER = re.compile(r"The answer is \\boxed\{(-?\d{1,9})\}\.?", re.ASCII)
AGAIN = "Let me check that again."


def check_lines(story: Story, lines: Sequence[str]) -> list[bool]:
    """For each line, without space around it, whether it is right.

    An equation must begin at the story's own total, take its next change and add it up. One that takes the next change
    is gone on from, whatever else is wrong in it: who says 9-3=5 and then 6+3=9 has erred once. One that takes another
    is wrong and leaves the story where it was. Telling it again restarts the story; a line that says anything
    else is wrong. What is counted is not judged: whether pens or coins, nothing is built on it.
    """
    beginning = re.compile(rf"{story.name} has {story.start} [a-z]+\.")
    total, taken, verdicts = story.start, 0, []
    for line in lines:
        if line == AGAIN or beginning.fullmatch(line):
            total, taken = story.start, 0
            verdicts.append(True)
        elif answer := _ANSWER.fullmatch(line):
            verdicts.append(int(answer[1]) == story.answer)
        elif (equation := _EQUATION.fullmatch(line)) and taken < len(story.changes):
            before, change, after = map(int, equation.groups())
            due = story.changes[taken]
            verdicts.append(before == total and change == due and after == total + due)
            if change == due:
                total, taken = total + due, taken + 1
        else:
            verdicts.append(False)
    return verdicts
