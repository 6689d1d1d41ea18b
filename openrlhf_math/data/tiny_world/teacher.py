"""The programmatic teacher: correct, and more verbose than the problem needs."""

import random

from openrlhf_math.data.tiny_world.problems import Story

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
