"""Budgets of a problem and of a whole set, in tokens, attempts and seconds."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openrlhf_math.rerank.anytime import Attempt

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that may be spent; None where there is no limit. Raises ValueError for an invalid limit."""

    tokens: float | None = None
    attempts: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "attempts", "seconds"):
            limit = getattr(self, name)
            if limit is not None and not limit >= 0:
                raise ValueError(f"the limit of {name} is {limit}, it must be 0 or more")


class Budget:
    """What one problem may spend, and has spent. The seconds run from its making.

    tokens: all that were written, also those that no attempt shows. begun, attempts: attempts that were begun, and that
    are done; the others are under way. wanted: attempts that should be under way at once, see `early_stop.wave`.
    uncounted: completions that were cancelled and whose tokens are unknown. stopped: set it, and the budget is spent.
    patience: seconds for the first attempt, where the limit of seconds is too short for one.
    waiting: attempts that are done and are counted after one that is not, by number, see `strategies.independent`.
    """

    def __init__(self, limits: Limits, clock: Clock = time.monotonic, patience: float | None = None) -> None:
        self.limits = limits
        self.tokens = self.attempts = self.begun = self.uncounted = 0
        self.wanted = math.inf
        self.waiting: dict[int, Attempt] = {}
        self.stopped = asyncio.Event()
        self._clock, self._started, self._patience = clock, clock(), patience
        self._held = 0.0

    def begin(self) -> bool:
        """Begin an attempt, unless no limit leaves room for one more. Returns whether it may be made."""
        room = self.limits.attempts is None or self.begun < self.limits.attempts
        if not room or self.exhausted():
            return False
        self.begun += 1
        return True

    def count(self) -> None:
        """Note that an attempt is done."""
        self.attempts += 1

    def spend(self, tokens: int) -> None:
        """Note tokens. They may be more than were left: one learns it when they are written."""
        self.tokens += tokens

    def hold(self, share: float) -> None:
        """Keep back this share of the limits of tokens and seconds for later: `hold(0)` frees it."""
        self._held = share

    def tokens_left(self) -> float:
        return _left(self._without_held(self.limits.tokens), self.tokens)

    def attempts_left(self) -> float:
        return _left(self.limits.attempts, self.attempts)

    def seconds_left(self) -> float:
        limit = self.limits.seconds
        if limit is not None and not self.attempts and self._patience is not None:
            limit = max(limit, self._patience)
        return _left(self._without_held(limit), self._clock() - self._started)

    def _without_held(self, limit: float | None) -> float | None:
        return None if limit is None else limit * (1 - self._held)

    def exhausted(self) -> str:
        """The limit that is reached: "tokens", "attempts" or "seconds", or "interrupted"; "" if there is none."""
        if self.stopped.is_set():
            return "interrupted"
        left = {"tokens": self.tokens_left(), "attempts": self.attempts_left(), "seconds": self.seconds_left()}
        return next((name for name, amount in left.items() if amount <= 0), "")


class SetBudget:
    """What a set of problems may spend together.

    Each problem gets an equal share of what is left when it starts, so what one leaves unspent passes on to those
    after it. A share of the seconds too short for one attempt answers nothing, so none ends a problem before its first
    attempt is counted: then the first problems are served, and the last get nothing.

    total: for the whole set. each: for one problem, whatever its share is. problems: how many there will be.
    max_concurrency: how many run at the same time and so share the seconds.
    """

    def __init__(
        self, total: Limits, each: Limits, problems: int, max_concurrency: int = 1, clock: Clock = time.monotonic
    ) -> None:
        self._each, self._waiting, self._max_concurrency, self._clock = each, problems, max_concurrency, clock
        self._set = Budget(total, clock)
        self._open: list[Budget] = []
        self._stopped = False

    @contextlib.contextmanager
    def problem(self) -> Iterator[Budget]:
        """The budget of the next problem; what it leaves unspent is free again when the block is done."""
        patience = _smaller(self._each.seconds, self._set.seconds_left())
        budget = Budget(self._share(), self._clock, patience)
        if self._stopped:
            budget.stopped.set()
        self._waiting = max(self._waiting - 1, 0)
        self._open.append(budget)
        try:
            yield budget
        finally:
            self._open.remove(budget)
            self._set.tokens += budget.tokens
            self._set.attempts += budget.attempts

    def stop(self) -> None:
        """Nothing more may be spent: every problem ends with the best it has."""
        self._stopped = True
        for budget in self._open:
            budget.stopped.set()

    def _share(self) -> Limits:
        """An equal share of what is neither spent nor promised to a problem under way."""
        waiting = max(self._waiting, 1)
        tokens = self._set.tokens_left() - sum(max(budget.tokens, budget.limits.tokens or 0) for budget in self._open)
        attempts = self._set.attempts_left() - sum(
            max(budget.attempts, budget.limits.attempts or 0) for budget in self._open
        )
        seconds = self._set.seconds_left()
        return Limits(
            _smaller(self._each.tokens, _floor(tokens / waiting)),
            _smaller(self._each.attempts, _floor(attempts / waiting)),
            _smaller(self._each.seconds, min(seconds, seconds * self._max_concurrency / waiting)),
        )


def _left(limit: float | None, spent: float) -> float:
    return math.inf if limit is None else max(limit - spent, 0)


def _floor(amount: float) -> float:
    return amount if math.isinf(amount) else max(math.floor(amount), 0)


def _smaller(limit: float | None, share: float) -> float | None:
    smallest = share if limit is None else min(limit, share)
    return None if math.isinf(smallest) else smallest
