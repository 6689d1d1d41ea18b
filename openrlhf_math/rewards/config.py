"""What is rewarded, and how much time and memory a single answer may cost."""

import math
import os
from dataclasses import dataclass
from typing import Literal

from openrlhf_math.errors import BadValue

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
                        `rewards.wellformed` says exactly what that means
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
