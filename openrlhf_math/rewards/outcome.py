"""Step 4: from a response and a gold answer to a grade."""

import time
from dataclasses import dataclass
from typing import Literal

from openrlhf_math import former_names
from openrlhf_math.rewards.config import RewardConfig
from openrlhf_math.rewards.equivalence import compare
from openrlhf_math.rewards.extract import extract
from openrlhf_math.rewards.gold import UnparsableGold, parse_gold
from openrlhf_math.rewards.wellformed import well_formed

# Of a problem, whose words may be counted and whose signs say what a logarithm is.
LONGEST_PROBLEM = 4000


Outcome = Literal["correct", "format", "wrong", "ungraded"]


@dataclass(frozen=True, slots=True)
class Grade:
    """What one response is worth.

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
    except Exception as error:  # a mistake of ours must not end a training run; it is counted and its text is kept
        return grade(Verdict(None, f"error: {error!r:.200}", time.perf_counter() - begun))
    seconds = time.perf_counter() - begun
    if comparison.same is None:
        return Open(
            comparison.gold, comparison.answer, (problem or "")[-LONGEST_PROBLEM:], extraction.answer, formed, seconds
        )
    return grade(Verdict(comparison.same, "", seconds))


def conclude(open_: Open, verdict: Verdict, config: RewardConfig) -> Grade:
    """The grade of a response once the worker has spoken."""
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
