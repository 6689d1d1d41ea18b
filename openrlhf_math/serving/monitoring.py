"""The server's health, reported within a second whatever the solver does, and counters for Prometheus."""

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from openrlhf_math.rerank.roles import Unavailable
from openrlhf_math.rerank.solver import Solution
from openrlhf_math.side_by_side import within

ANSWERS_WITHIN = 1.0  # seconds


class Health:
    """Of one solver. Only one check runs at a time."""

    def __init__(self, check: Callable[[], Awaitable[None]], seconds: float) -> None:
        """check: raises an error if something is wrong. seconds: its limit; after it the solver is unavailable."""
        self._check, self._seconds = check, seconds
        self._known: Exception | None = Unavailable("the solver has not answered yet")
        self._checking: asyncio.Task | None = None

    async def say(self) -> None:
        """Raises what is wrong: what this check finds within ANSWERS_WITHIN seconds, else what was last known.

        A good answer of an earlier check says nothing about now, and is not repeated.
        """
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._learn())
        await asyncio.wait([self._checking], timeout=ANSWERS_WITHIN)
        if self._known is not None:
            raise self._known
        if not self._checking.done():
            raise Unavailable(f"the solver has not answered for {ANSWERS_WITHIN:g} s")

    async def _learn(self) -> None:
        try:
            await within(self._seconds, self._check())
        except TimeoutError:
            self._known = Unavailable(f"the solver has not answered for {self._seconds:.0f} s")
        except Exception as error:
            self._known = error
        else:
            self._known = None


SECONDS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """One server's."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        name = "openrlhf_math_{}".format
        self.requests = Counter(name("requests"), "Requests that ended, by HTTP status; 499: the client left",
                                ["status"], registry=registry)  # fmt: skip
        self.under_way = Gauge(name("requests_under_way"), "Requests being solved", registry=registry)
        self.ended = Counter(name("solutions"), "Solutions, by what ended them", ["ended"], registry=registry)
        self.unanswered = Counter(name("unanswered"), "Solutions without an answer", registry=registry)
        self.attempts = Counter(name("attempts"), "Attempts made", registry=registry)
        self.unscored = Counter(name("unscored_attempts"), "Attempts whose score is not a number", registry=registry)
        self.tokens = Counter(name("tokens"), "Tokens written", registry=registry)
        self.saved = Counter(name("tokens_saved"), "Tokens saved by stopping early, estimated", registry=registry)
        self.seconds = Histogram(name("solve_seconds"), "From the first request to the decision", registry=registry,
                                 buckets=SECONDS)  # fmt: skip

    def solved(self, solution: Solution) -> None:
        decision = solution.decision
        self.ended.labels(decision.ended).inc()
        self.unanswered.inc(decision.attempt is None)
        self.attempts.inc(decision.attempts)
        self.unscored.inc(decision.unscored if solution.scored else 0)
        self.tokens.inc(decision.tokens)
        self.saved.inc(decision.tokens_saved)
        self.seconds.observe(solution.seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)
