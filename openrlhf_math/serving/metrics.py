"""What the server counts, in Prometheus' form."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from openrlhf_math.rerank.solver import Solution

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
