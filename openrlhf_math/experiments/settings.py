"""What an experiment is asked to do."""

import math
from dataclasses import dataclass
from pathlib import Path

from openrlhf_math.errors import UserError

MOST_STEPS = 125  # of GRPO: then each of the tiny world's 2,000 training problems has been met once
TRAINING_PROBLEMS = 2000


@dataclass(frozen=True, slots=True)
class Settings:
    """Raises UserError for values that cannot work.

    seeds          how many; each has problems, its own student and runs
    steps          of every GRPO run
    coefficients   of KL, for `kl`
    repeats        times that completions are timed before and after, for `efficiency`
    attempts       at each held-out problem, for `rerank`
    noise          of the engine's weights, for `mismatch`
    problems       that a teacher is asked, for `rules`; there, `attempts` are its attempts at each
    """

    run_dir: Path
    seeds: int
    steps: int = 1
    coefficients: tuple[float, ...] = ()
    repeats: int = 1
    attempts: int = 2
    problems: int = TRAINING_PROBLEMS
    noise: float = 0.2

    def __post_init__(self) -> None:
        for name, least, most in (
            ("seeds", 1, None), ("steps", 1, MOST_STEPS), ("repeats", 1, None), ("attempts", 2, None),
            ("problems", 50, TRAINING_PROBLEMS),
        ):  # fmt: skip
            value = getattr(self, name)
            if value < least or (most and value > most):
                room = f"{least} or more" if most is None else f"{least} to {most}"
                raise UserError(f"--{name.replace('_', '-')} {value}: give {room}")
        if not 0 < self.noise < math.inf:
            raise UserError(f"--noise {self.noise:g}: give a finite number above 0")
        for one in self.coefficients:
            if not 0 <= one < math.inf:
                raise UserError(f"--coefficients {one:g}: give numbers of 0 or more")
            if self.coefficients.count(one) > 1:
                raise UserError(f"--coefficients has {one:g} twice; give each once")
