"""Step 4: from a response and a gold answer to a grade, and the settings of grading."""

import math
import os
import time
from dataclasses import dataclass
from typing import Literal

from openrlhf_math import former_names
from openrlhf_math.errors import BadValue
from openrlhf_math.rewards.equivalence import compare
from openrlhf_math.rewards.extract import extract, well_formed
from openrlhf_math.rewards.gold import UnparsableGold, parse_gold

Style = Literal["boxed", "think"]
# A worker takes about 35 MB of memory and 115 MB of address space before its first answer.
LEAST_MEMORY = 256 << 20
MOST_SECONDS = 1_000_000
MOST_WORKERS = 1024


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """The outcome reward's settings. Raises BadValue for values that cannot work.

    correct_reward      for a right answer, in whatever format
    format_reward       for a wrong answer in the right format
    style               "boxed": the answer in `\\boxed{}`; "think": reasoning closed by `</think>`, then the box;
                        `rewards.extract` says exactly what that means
    accept_expressions  count `2+3`, or the question's own expression, as an answer where the gold is `5`
    timeout_seconds     CPU time one answer may take in a worker; load on the machine does not count
    memory_bytes        address space of one worker, its libraries included
    workers             most worker processes; they start one by one, when all that run are busy
    """

    format_reward: float = 0.2
    correct_reward: float = 1.0
    style: Style = "boxed"
    accept_expressions: bool = False
    timeout_seconds: float = 2.0
    memory_bytes: int = 1 << 30
    workers: int = min(4, os.cpu_count() or 1)

    def __post_init__(self) -> None:
        if self.style not in ("boxed", "think"):
            raise BadValue("style", self.style, "'boxed' or 'think'")
        if not 0 < self.timeout_seconds <= MOST_SECONDS:
            raise BadValue("timeout_seconds", self.timeout_seconds, f"more than 0 and at most {MOST_SECONDS:,}")
        if self.memory_bytes < LEAST_MEMORY:
            raise BadValue("memory_bytes", self.memory_bytes, f"at least {LEAST_MEMORY}, which a worker needs")
        if self.memory_bytes >= 1 << 63:
            raise BadValue("memory_bytes", self.memory_bytes, "less than 2 to the 63rd")
        if self.workers < 1:
            raise BadValue("workers", self.workers, "at least 1")
        if self.workers > MOST_WORKERS:
            raise BadValue("workers", self.workers, f"at most {MOST_WORKERS}")
        for name in ("correct_reward", "format_reward"):
            if not math.isfinite(getattr(self, name)):
                raise BadValue(name, getattr(self, name), "a finite number")
        if self.format_reward > self.correct_reward:
            most = f"at most {self.correct_reward}, the reward of a correct answer, which would be a loss otherwise"
            raise BadValue("format_reward", self.format_reward, most)


# Of a problem, whose words may be counted and whose signs say what a logarithm is.
LONGEST_PROBLEM = 4000


Outcome = Literal["correct", "format", "wrong", "ungraded"]


@dataclass(frozen=True, slots=True)
class Grade:
    """The reward of one response.

    outcome      "correct"; "format": wrong, in the right format; "wrong": neither; "ungraded": not
                 decided within the limits, rewarded as a wrong answer but to be counted apart
    reward       the number for the trainer
    answer       the extracted answer as written, None if there is none
    well_formed  whether the response is in the right format
    seconds      what grading took, without waiting for a worker
    reason       why it is ungraded, else ""
    """

    outcome: Outcome
    reward: float
    answer: str | None
    well_formed: bool
    seconds: float
    reason: str = ""

    def __post_init__(self) -> None:
        # A reward of a user's may give the outcome its former name.
        object.__setattr__(self, "outcome", former_names.outcome(self.outcome))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a worker found. `same` is None with a `reason` if it found nothing; `retryable` if it may be tried again.

    `same` is a text where a fingerprint was asked for, a list where blocking keys were.
    """

    same: bool | str | list[str] | None
    reason: str
    seconds: float
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Open:
    """A response whose grade depends on values to compute: are `gold` and `answer`, tidied LaTeX, the same?"""

    gold: str
    answer: str
    problem: str
    extracted: str
    well_formed: bool
    seconds: float


def begin(response: str | bytes | None, gold: str, problem: str | None, config: RewardConfig) -> Grade | Open:
    """Grade as far as it goes without symbolic work. Never raises for any response or gold."""
    begun = time.perf_counter()
    if isinstance(response, bytes):
        response = response.decode("utf-8", errors="replace")
    extraction = extract(response or "", config.style)
    formed = well_formed(response or "", extraction, config.style)

    def grade(verdict: Verdict) -> Grade:
        return _grade(verdict, extraction.answer, formed, config)

    try:
        reference = parse_gold(gold)
    except UnparsableGold as error:
        return grade(Verdict(None, str(error), time.perf_counter() - begun))
    if extraction.answer is None:
        return grade(Verdict(False, "", time.perf_counter() - begun))
    try:
        comparison = compare(reference, extraction.answer, problem, config.accept_expressions)
    except Exception as error:  # a bug here must not end a training run; it is counted and its text is kept
        return grade(Verdict(None, f"error: {error!r:.200}", time.perf_counter() - begun))
    seconds = time.perf_counter() - begun
    if comparison.same is None:
        return Open(
            comparison.gold, comparison.answer, (problem or "")[-LONGEST_PROBLEM:], extraction.answer, formed, seconds
        )
    return grade(Verdict(comparison.same, "", seconds))


def conclude(open_: Open, verdict: Verdict, config: RewardConfig) -> Grade:
    """The grade of a response after the worker's reply."""
    seconds = open_.seconds + verdict.seconds
    return _grade(Verdict(verdict.same, verdict.reason, seconds), open_.extracted, open_.well_formed, config)


def _grade(verdict: Verdict, answer: str | None, formed: bool, config: RewardConfig) -> Grade:
    outcome: Outcome
    if verdict.same:
        outcome, reward = "correct", config.correct_reward
    elif verdict.same is None:  # paying for the format here would pay for hanging the grader
        outcome, reward = "ungraded", 0.0
    else:
        outcome, reward = ("format", config.format_reward) if formed else ("wrong", 0.0)
    return Grade(outcome, reward, answer, formed, verdict.seconds, verdict.reason)
