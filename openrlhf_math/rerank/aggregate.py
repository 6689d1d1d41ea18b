"""One score for an attempt out of its step scores.

A rule is a function from the step scores, finite numbers and at least one, to a number. A user's own is given by its
dotted path, `package.module.function`.
"""

import math
from collections.abc import Callable, Iterable, Sequence

from openrlhf_math.errors import UserError
from openrlhf_math.registry import Registry


class Logit(float):
    """A score that is a logit, whatever its value: no probability, even between 0 and 1."""


Aggregation = Callable[[Sequence[float]], float]
Scores = float | Sequence[float] | None
AGGREGATIONS: Registry[Aggregation] = Registry()
register_aggregation = AGGREGATIONS.register  # of a function from step scores to one score


def find_aggregation(name: str) -> Aggregation:
    """A known aggregation, or a user's own by dotted path. Raises UserError if there is none.

    A user's own raises UserError where it returns no number.
    """
    aggregation = AGGREGATIONS.find("--aggregate", name)
    return aggregation if name in AGGREGATIONS else _checked(name, aggregation)


def _checked(name: str, aggregation: Aggregation) -> Aggregation:
    def checked(steps: Sequence[float]) -> float:
        value = aggregation(steps)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise UserError(f"--aggregate {name}: it returned {value!r:.60}; let it return a number") from None

    checked.__name__ = getattr(aggregation, "__name__", name)
    return checked


@register_aggregation("last")
def last(steps: Sequence[float]) -> float:
    """The score after the last step, which a PRM gives having read the whole solution.

    Snell et al., https://arxiv.org/abs/2408.03314; the default of Hugging Face's search-and-learn.
    """
    return steps[-1]


@register_aggregation("min")
def lowest(steps: Sequence[float]) -> float:
    """The worst step: a chain is as good as its weakest link. Math-Shepherd, https://arxiv.org/abs/2312.08935."""
    return min(steps)


@register_aggregation("product")
def product(steps: Sequence[float]) -> float:
    """The probability that every step is right. Let's Verify Step by Step, https://arxiv.org/abs/2305.20050."""
    return math.prod(steps)


@register_aggregation("mean")
def mean(steps: Sequence[float]) -> float:
    """The mean over the steps, which unlike the product does not fall with their number."""
    return math.fsum(steps) / len(steps)


def aggregate(scores: Sequence[Scores], aggregation: Aggregation) -> tuple[list[float], int]:
    """One finite score for every attempt of a problem, and how many attempts had none.

    scores: for each attempt a number, or its step scores. No score has an attempt with None, without steps, with a step
    that is not a finite number (one failed step invalidates the whole), or whose aggregate is none. It is given the
    lowest score of the problem, 0 where all are probabilities: it is never preferred, and weighs nothing, or as
    little as the worst, in a vote.
    """
    values = [_finite(attempt, aggregation) for attempt in scores]
    known = [value for value in values if value is not None]
    floor = 0.0 if probabilities(known) else min(known)
    return [floor if value is None else value for value in values], values.count(None)


def probabilities(scores: Iterable[float]) -> bool:
    """Whether scores are probabilities: a kind of scorer that gives logits says so, others by their values."""
    return not any(isinstance(score, Logit) or not 0 <= score <= 1 for score in scores)


def on_one_scale(problems: Iterable[Sequence[Scores] | None]) -> list[list[Scores] | None]:
    """The scores of many problems by one scorer, as a file has them: it does not say whether numbers are logits.

    Where one finite number among all is no probability, each becomes a Logit: it must not depend on the problem, or on
    which of its attempts take part, how they are read.
    """
    rows = [None if scores is None else list(scores) for scores in problems]
    steps = (step for scores in rows for one in scores or () for step in _steps(one) if math.isfinite(step))
    if probabilities(steps):
        return rows
    return [None if scores is None else [_as_logits(one) for one in scores] for scores in rows]


def _as_logits(one: Scores) -> Scores:
    if one is None or isinstance(one, (int, float)):
        return None if one is None else Logit(one)
    return [Logit(step) for step in one]


def _steps(one: Scores) -> Sequence[float]:
    if one is None:
        return ()
    return [one] if isinstance(one, (int, float)) else one


def _finite(attempt: Scores, aggregation: Aggregation) -> float | None:
    if attempt is None:
        return None
    steps = list(_steps(attempt))
    if not steps or not all(map(math.isfinite, steps)):
        return None
    try:
        value = float(aggregation(steps))
    except OverflowError:
        return None
    if not math.isfinite(value):
        return None
    return Logit(value) if any(isinstance(step, Logit) for step in steps) else value
