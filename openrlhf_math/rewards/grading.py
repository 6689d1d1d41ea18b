"""`grade`: one response at a time, for notebooks and scripts."""

import atexit
from functools import lru_cache

from openrlhf_math.rewards.config import RewardConfig
from openrlhf_math.rewards.outcome import Grade
from openrlhf_math.rewards.pool import GradingPool


def grade(
    response: str | bytes | None, gold: str, *, problem: str | None = None, config: RewardConfig | None = None
) -> Grade:
    r"""Grade one response against its gold answer.

        >>> grade(r"so we get \boxed{\frac{1}{2}}", "0.5").outcome
        'correct'

    Safe whatever the response contains: answers that need symbolic work go to worker processes with a time and a
    memory limit, which are started at the first such answer and shared by all calls with the same `config`.
    `problem` helps where the answer refers to it: options of a multiple choice, a question repeated as its answer.
    """
    return _shared_pool(config or RewardConfig()).grade_now(response, gold, problem)


@lru_cache(maxsize=8)
def _shared_pool(config: RewardConfig) -> GradingPool:
    pool = GradingPool(config)
    atexit.register(pool.close)
    return pool
