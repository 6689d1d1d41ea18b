"""Synthetic word problems: a running total that goes up and down, two to four times."""

import random
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
