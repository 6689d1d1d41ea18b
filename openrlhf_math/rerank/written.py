"""Tokens that are written before there is an attempt to count them for, and those that no attempt will show."""

from openrlhf_math.rerank.anytime import Attempt
from openrlhf_math.rerank.budget import Budget
from openrlhf_math.rerank.roles import Completion


class Written:
    """Keeps a budget true while a search goes on: what is pruned has cost as much as what is kept.

    Every completion is noted when it is written. An attempt brings its own tokens with it, which are noted when it is
    counted (`anytime.decide`), so they are taken off again as it is handed over: in the end every token was noted once,
    also those of a beginning that several attempts share.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def note(self, completion: Completion) -> Completion:
        self._budget.tokens += completion.tokens
        return completion

    def hand_over(self, attempt: Attempt) -> Attempt:
        self._budget.tokens -= attempt.tokens
        return attempt
