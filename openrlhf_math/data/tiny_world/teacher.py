"""The programmatic teacher: correct, and more verbose than the problem needs."""

import random

from openrlhf_math.data.tiny_world.problems import Story

# How often the teacher goes through the whole sum once more before it answers.
CHECK_AGAIN = 0.5
MOST_CHECKS = 2


def write_trace(story: Story, rng: random.Random) -> str:
    """A chain of thought in think tags, then the answer in a box.

    Its checks only repeat what is known: they cost tokens, give the student more places to err, and can run
    over the token limit. That is what reinforcement learning can take away.
    """
    lines = [f"{story.name} has {story.start} {story.thing}."]
    total = story.start
    for verb, change in zip(story.verbs, story.changes, strict=True):
        lines.append(f"{story.name} {verb} {abs(change)}: {equation(total, change)}.")
        total += change
    checks = 0
    while checks < MOST_CHECKS and rng.random() < CHECK_AGAIN:
        lines.append(f"Let me check: {'; '.join(equations(story))}.")
        checks += 1
    return "<think>\n" + "\n".join(lines) + f"\n</think>\nThe answer is \\boxed{{{story.answer}}}."


def equation(total: int, change: int) -> str:
    return f"{total}{change:+d}={total + change}"


def equations(story: Story) -> list[str]:
    written, total = [], story.start
    for change in story.changes:
        written.append(equation(total, change))
        total += change
    return written
