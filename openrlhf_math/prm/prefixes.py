"""Beginnings of a solution, one up to the end of every step. Pure functions."""

import hashlib
import re
from collections.abc import Sequence

from openrlhf_math.seeds import derived_seed


def prefixes(response: str, steps: Sequence[str], separator: str) -> list[str]:
    """The text before each next step: `response` up to the end of step i and the space behind it.

    steps: of `response`, as `split_steps` finds them. The last is all of `response`. A closing of the thinking part
    belongs to none: whether to continue thinking is the model's choice.
    """
    between = re.compile(rf"(?:\s|</?think>|{re.escape(separator)})*")
    ends: list[int] = []
    end = 0
    for step in steps:
        start = _end(between, response, end)
        if not response.startswith(step, start):
            raise ValueError(f"the step {step!r:.40} is not at {start} of its response")
        end = start + len(step)
        ends.append(end)
    space = re.compile(r"\s*")
    return [response[: _end(space, response, end)] for end in ends[:-1]] + [response]


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Where what the pattern matches at `start` ends; `start` if it matches nothing."""
    found = pattern.match(text, start)
    return found.end() if found else start


def prefix_key(problem: str, gold: str, prefix: str) -> str:
    """A name for a beginning of a solution of a problem: attempts that begin alike share it."""
    return hashlib.sha256("\0".join((problem, gold, prefix)).encode("utf-8", "replace")).hexdigest()[:24]


def seed_of(seed: int, key: str, number: int) -> int:
    """Of a completion, the same in every run: 0 to 2^31 - 1."""
    return derived_seed(f"{seed} {key} {number}")


def label_of(reached: Sequence[bool | None], hard: bool) -> float | None:
    """A step's label from whether completions reached the gold answer, None for those that could not be graded.

    Math-Shepherd, https://arxiv.org/abs/2312.08935, equations 3 (hard: 1 if some completion does) and 4 (soft: the
    share that do). None if none could be graded.
    """
    decided = [one for one in reached if one is not None]
    if not decided:
        return None
    return float(any(decided)) if hard else sum(decided) / len(decided)
