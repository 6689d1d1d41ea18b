"""The raw problem set of the tiny world: as unclean as those from the web, so that curation has work."""

import random
import re

from openrlhf_math.data.tiny_world.problems import Story

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NO_GOLDS = ("", "notfound")


def problem_row(story: Story) -> dict:
    return {"problem": story.text, "answer": str(story.answer), "difficulty": story.difficulty}


def raw_rows(
    stories: list[Story], heldout: list[Story], rng: random.Random, duplicates: int, contaminated: int, no_golds: int
) -> list[dict]:
    """Rows of `stories`, and behind them what must go: so many of them said otherwise, so many problems of `heldout`
    said otherwise, and so many without a gold answer."""
    rows = [problem_row(story) for story in stories]
    for again in (*rng.sample(stories, duplicates), *rng.sample(heldout, contaminated)):
        rows.append(problem_row(again) | {"problem": otherwise(again.text, rng)})
    for number, story in enumerate(rng.sample(stories, no_golds)):
        # Another problem by its thing, so that it does not go as a duplicate.
        text = story.text.replace(story.thing, f"red {story.thing}")
        rows.append(problem_row(story) | {"problem": text, "answer": NO_GOLDS[number % len(NO_GOLDS)]})
    return rows


def otherwise(text: str, rng: random.Random) -> str:
    """The same problem: numbers in words, or other spaces, or both."""
    ways = rng.choice(("numbers", "spaces", "both"))
    if ways != "spaces":
        text = re.sub(r"\d", lambda digit: DIGITS[int(digit[0])], text)
    return text.replace(" ", "  ") if ways != "numbers" else text
