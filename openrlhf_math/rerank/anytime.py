"""One problem's attempts, counted as they come, with an answer at any time."""

import contextlib
import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from openrlhf_math.concurrency import closing, in_thread, within
from openrlhf_math.rerank.aggregate import Aggregation, Scores, aggregate, last, probabilities
from openrlhf_math.rerank.answer_clusters import AnswerClusters, Same
from openrlhf_math.rerank.budget import Budget
from openrlhf_math.rerank.choose import Rule, majority, needs_confidence, needs_scores, softmax, sums
from openrlhf_math.rerank.confidence import ByConfidence, Confidence, measured, surest, weights
from openrlhf_math.rerank.early_stop import Stop, never, wave
from openrlhf_math.tools.attempt import ToolUse

LATE_SECONDS = 3.0  # after the deadline, for attempts that are done and wait to be counted


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt.

    answer  the final answer, None if there is none
    scores  a number or step scores
    tokens  what it cost
    text    what was written
    by      name of the solver that wrote it
    finished  why it ended, see `roles.Completion`; "" if unknown
    tool    what was done with the tool; None without one
    confidence  of the model in it, None if not measured
    """

    answer: str | None
    scores: Scores = None
    tokens: int = 0
    text: str = ""
    by: str = ""
    finished: str = ""
    tool: ToolUse | None = None
    confidence: Confidence | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer that was chosen, and what it rests on.

    attempt       number of the chosen attempt among those made; None, as is `answer`, if none has an answer
    votes         attempts by cluster, in the order in which the clusters appeared
    unscored      attempts whose score is not a number
    ended         "tokens", "attempts" or "seconds": that limit was reached; "early": more attempts were not needed;
                  "done": there were no more; "interrupted": the best so far was requested
    tokens        all that were written for it, also by attempts that were cancelled or are not shown
    tokens_saved  by stopping early, at least, an estimate: the attempts that were not counted times the mean tokens of
                  those that were, which are the shorter ones, less what those under way had written
    not_counted   attempts that were begun and then cancelled, given up by the strategy, or not needed; their tokens are
                  in `tokens`
    left_out      attempts with an answer that had no vote, as the least confident
    unmeasured    where the choice rests on confidence: attempts in which it was not measured
    by_model      whether a model has chosen among the answers, see `genselect`; None where none was to
    """

    attempt: int | None
    answer: str | None
    votes: tuple[int, ...]
    unscored: int
    ended: str
    attempts: int
    tokens: int
    tokens_saved: int
    not_counted: int = 0
    left_out: int = 0
    unmeasured: int = 0
    by_model: bool | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """What is known once some attempts are counted.

    voting: the clusters of those that vote. weights: what the rule reads, scores or confidences. winner: the number of
    the attempt that the rule chooses. grouped: the answers, for the next one to join.
    """

    grouped: AnswerClusters
    attempts: Sequence[Attempt] = ()
    answer_clusters: Sequence[int | None] = ()
    voting: Sequence[int | None] = ()
    scores: Sequence[float] = ()
    weights: Sequence[float] = ()
    unscored: int = 0
    unmeasured: int = 0
    winner: int | None = None


class VoteState:
    """The attempts so far with their clusters and scores."""

    def __init__(
        self,
        same: Same,
        rule: Rule = majority,
        aggregation: Aggregation = last,
        by: ByConfidence = ByConfidence(),  # noqa: B008  immutable
    ) -> None:
        self._rule, self._aggregation, self._by = rule, aggregation, by
        self.take(Count(AnswerClusters(same)))

    def add(self, attempt: Attempt) -> None:
        """Count one more. May wait for the grader; until it is done, everything else is as it was before."""
        self.take(self.counted_with(attempt))

    def counted_with(self, attempt: Attempt) -> Count:
        """The count with one more attempt. Grader and rule run here; nothing changes until it is taken."""
        attempts = [*self.attempts, attempt]
        grouped = self._grouped.copy()
        grouped.add(attempt.answer)
        clusters = grouped.numbers()
        scores, unscored = aggregate([one.scores for one in attempts], self._aggregation)
        numbers = measured([one.confidence for one in attempts], self._by.measure)
        voting = surest(clusters, numbers, self._by.keep)
        read = weights(numbers) if needs_confidence(self._rule) else scores
        unmeasured = numbers.count(None) if needs_confidence(self._rule) or self._by.keep < 1 else 0
        winner = self._rule(voting, read)
        return Count(grouped, attempts, clusters, voting, scores, read, unscored, unmeasured, winner)

    def take(self, count: Count) -> None:
        self.attempts, self.answer_clusters = list(count.attempts), list(count.answer_clusters)
        self.scores = list(count.scores)
        self.voting, self.weights = list(count.voting), list(count.weights)
        self.unscored, self.unmeasured, self._winner = count.unscored, count.unmeasured, count.winner
        self._grouped = count.grouped

    def chosen(self) -> int | None:
        """The number of the attempt that wins among those so far."""
        return self._winner

    def votes(self) -> tuple[int, ...]:
        votes = Counter(self.answer_clusters)
        return tuple(votes[name] for name in self._names())

    def totals(self) -> tuple[float, ...]:
        """What the rule sums: votes or scores, by cluster, in order of appearance; nothing if it sums nothing.

        Logits are shares of the softmax, and confidences shares of their sum, of which none says how many attempts it
        rests on. They are scaled so that their sum is the effective number of attempts, 1 / sum_i p_i^2 (Kish): n where
        all weigh the same, 1 where one outweighs all others.
        """
        if not sums(self._rule):
            return ()
        if needs_confidence(self._rule):
            values = _effective(self.weights)
        elif not needs_scores(self._rule):
            values = [1] * len(self.voting)
        else:
            values = self.scores if probabilities(self.scores) else _effective(softmax(self.scores))
        added: dict[int | None, list[float]] = {}
        for name, value in zip(self.voting, values, strict=True):
            added.setdefault(name, []).append(value)
        return tuple(math.fsum(added.get(name, ())) for name in self._names())

    def bounded(self) -> bool:
        """Whether an attempt adds at most 1 to a total, and takes nothing from another.

        One more logit, or confidence, may outweigh all others; one more attempt may take another's place among the most
        confident: no lead is safe.
        """
        if self._by.keep < 1 or needs_confidence(self._rule):
            return False
        return not needs_scores(self._rule) or probabilities(self.scores)

    def left_out(self) -> int:
        """Attempts with an answer that do not vote."""
        return self.voting.count(None) - self.answer_clusters.count(None)

    def wanted(self, stop: Stop, remaining: float) -> float:
        """Attempts that should be under way, see `early_stop.wave`."""
        return wave(stop, self.totals(), remaining, self.bounded()) if sums(self._rule) else math.inf

    def _names(self) -> range:
        return range(1 + max((name for name in self.answer_clusters if name is not None), default=-1))


def _effective(weights: Sequence[float]) -> list[float]:
    """Weights, 0 or more, scaled so that their sum is their effective number, (sum w)^2 / sum w^2; 1 each if all are
    0, where the majority decides."""
    squares = math.fsum(weight * weight for weight in weights)
    total = math.fsum(weights)
    return [weight * total / squares for weight in weights] if squares else [1.0] * len(weights)


async def decide(
    attempts: AsyncGenerator[Attempt],
    budget: Budget,
    state: VoteState,
    stop: Stop = never,
    counted: Callable[[VoteState], None] = lambda state: None,
    waves: bool = True,
    late: bool = False,
) -> Decision:
    """Take attempts until the budget is spent, or `stop` says that more will not change the choice; close them then.

    counted: called with every attempt when it is counted. waves: whether attempts are begun in waves, see
    `early_stop.wave`; else as many at once as the strategy may.

    The deadline also interrupts an attempt, a comparison or the rule that is under way, and so does `budget.stopped`:
    the decision is then made from the attempts that were counted before and, if `late`, those in `budget.waiting`.
    """
    ended = budget.exhausted()
    async with closing(attempts):
        while not ended:
            if waves:
                budget.wanted = state.wanted(stop, budget.attempts_left())
            try:
                attempt = await within(budget.seconds_left(), anext(attempts), budget.stopped)
                left = budget.seconds_left()
                budget.count()
                state.take(await within(left, in_thread(state.counted_with, attempt), budget.stopped))
                counted(state)
            except StopAsyncIteration:
                ended = budget.exhausted() or "done"
            except TimeoutError:
                ended = "interrupted" if budget.stopped.is_set() else "seconds"
            else:
                left = budget.attempts_left() if state.bounded() else math.inf
                ended = budget.exhausted() or ("early" if stop(state.totals(), left) else "")
        shown = budget.tokens
    cut = budget.tokens - shown
    if ended == "early":
        cut += sum(attempt.tokens for attempt in budget.waiting.values())
    elif late:
        with contextlib.suppress(TimeoutError):
            await within(LATE_SECONDS, _count_waiting(budget, state, counted))
    return _decision(state, budget, ended, cut)


async def _count_waiting(budget: Budget, state: VoteState, counted: Callable[[VoteState], None]) -> None:
    for _, attempt in sorted(budget.waiting.items()):
        state.take(await in_thread(state.counted_with, attempt))
        budget.count()
        counted(state)


def _decision(state: VoteState, budget: Budget, ended: str, cut: int) -> Decision:
    """cut: tokens of what was cancelled, or is not counted."""
    number = state.chosen()
    saved = 0.0
    if ended == "early" and budget.limits.attempts:
        not_made = budget.limits.attempts - budget.attempts - budget.uncounted
        saved = not_made * (budget.tokens - cut) / budget.attempts - cut
    return Decision(
        attempt=number,
        answer=None if number is None else state.attempts[number].answer,
        votes=state.votes(),
        unscored=state.unscored,
        ended=ended,
        attempts=budget.attempts,
        tokens=budget.tokens,
        tokens_saved=round(max(min(saved, budget.tokens_left()), 0)),
        not_counted=max(budget.begun - budget.attempts, 0),
        left_out=state.left_out(),
        unmeasured=state.unmeasured,
    )
