r"""Which lines of an attempt are right, by arithmetic and by the story.

An attempt is what a student of the teacher writes: `Leo has 9 pens.`, a line `9-3=6.` for every change, any number of
times `Let me check that again.` and the changes once more, `The answer is \boxed{6}.`
"""

import re
from collections.abc import Sequence

from openrlhf_math.data.tiny_world.problems import Story

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
