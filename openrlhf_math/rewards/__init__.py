r"""The outcome reward: extract the final answer, check the format, compare with the gold, give the reward.

    >>> from openrlhf_math.rewards import grade
    >>> grade(r"... so the answer is \boxed{\frac{1}{2}}.", "0.5").reward
    1.0

`extract`, `equivalence` and `outcome` are pure functions on text: the fast path. What they leave open,
`pool` compares by value (`same`) in worker processes that can be killed.
"""

from openrlhf_math.rewards.gold import Gold, UnparsableGold, parse_gold
from openrlhf_math.rewards.outcome import Grade, RewardConfig
from openrlhf_math.rewards.pool import GradingPool, grade

__all__ = ["Gold", "Grade", "GradingPool", "RewardConfig", "UnparsableGold", "grade", "parse_gold"]
