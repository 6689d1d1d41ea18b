"""Refinement: the best attempt is criticised and written again, and counts again only if its score rises.

Critique and rewrite are the sampler's own, as in Self-Refine, https://arxiv.org/abs/2303.17651. Models are poor judges
of their own corrections (https://arxiv.org/abs/2310.01798), so here the scorer is the judge.
"""

from collections.abc import AsyncGenerator
from dataclasses import replace

from openrlhf_math.concurrency import closing
from openrlhf_math.rerank.aggregate import Aggregation, aggregate, last
from openrlhf_math.rerank.anytime import Attempt
from openrlhf_math.rerank.budget import Budget, Limits
from openrlhf_math.rerank.roles import RequestError
from openrlhf_math.rerank.task import Strategy, Task, does_hand_over, hands_over

CRITIQUE = (
    "Check the solution above step by step. Name the first step that is wrong and say why it is, or say that every "
    "step is right and what could be clearer. Do not write the solution again yet."
)
REWRITE = (
    "Now write the whole solution again, with the mistakes you found put right. Give the final answer in the same form "
    "as the problem asked for."
)
REFINED = "refined"


def refined(first: Strategy, passes: int, aggregation: Aggregation = last) -> Strategy:
    """The attempts of `first`, then so many passes over the best of them; each takes the place of one attempt.

    A rewrite is a separate attempt, by REFINED, if it has an answer, another text, and a score above the best so
    far; the next pass then starts from it. Else nothing remains of it but its tokens, and the next pass tries again.
    Passes end where the sampler refuses, since an attempt and its critique fill the context. Where the budget sets no
    number of attempts nothing is kept back for them: they are made if `first` ends by itself.

    The strategy needs a scorer. Raises ValueError if passes < 1.
    """
    if passes < 1:
        raise ValueError(f"{passes} passes of refinement, there must be at least 1")

    async def strategy(task: Task) -> AsyncGenerator[Attempt, None]:
        if task.scorer is None:
            raise ValueError("refinement needs a scorer")
        made: list[Attempt] = []
        async with closing(_first(first, task, passes)) as attempts:
            async for attempt in attempts:
                made.append(attempt)
                yield attempt
        best = _best(made, aggregation)
        for number in range(len(made), len(made) + passes):
            if best is None or not task.budget.begin():
                return
            try:
                rewrite = await _rewritten(task, number, best)
            except RequestError:
                return
            if _better(rewrite, best, aggregation):
                best = rewrite
                yield rewrite

    return hands_over(strategy, does_hand_over(first))


async def _first(first: Strategy, task: Task, passes: int) -> AsyncGenerator[Attempt, None]:
    """The attempts of `first`, which sees a budget without those kept back."""
    limits = task.budget.limits
    attempts = None if limits.attempts is None else max(limits.attempts - passes, min(limits.attempts, 1))
    budget = Budget(
        Limits(tokens=limits.tokens, attempts=attempts)
    )  # the caller that takes attempts enforces the seconds
    budget.wanted, budget.waiting = task.budget.wanted, task.budget.waiting
    try:
        async with closing(first(replace(task, budget=budget))) as made:
            async for attempt in made:
                budget.count()
                task.budget.begun = budget.begun
                yield attempt
                budget.wanted = task.budget.wanted
    finally:
        task.budget.begun = budget.begun


def _best(attempts: list[Attempt], aggregation: Aggregation) -> Attempt | None:
    """The one with an answer and the highest score, the earliest of several."""
    scores, _ = aggregate([attempt.scores for attempt in attempts], aggregation)
    answered = [number for number, attempt in enumerate(attempts) if attempt.answer is not None]
    number = max(answered, key=scores.__getitem__, default=None)
    return None if number is None else attempts[number]


async def _rewritten(task: Task, number: int, best: Attempt) -> Attempt:
    turn = task.turn(number)
    sampling = replace(turn.sampling, prefix="")
    said = [*turn.messages, {"role": "assistant", "content": best.text}, {"role": "user", "content": CRITIQUE}]
    critique = await task.sampler.complete(said, replace(sampling, watch=None))
    said = [*said, {"role": "assistant", "content": critique.text}, {"role": "user", "content": REWRITE}]
    rewrite = await task.sampler.complete(said, sampling)
    return await task.judged(replace(turn, messages=said, sampling=sampling, by=REFINED), [rewrite])


def _better(rewrite: Attempt, best: Attempt, aggregation: Aggregation) -> bool:
    (new, old), _ = aggregate([rewrite.scores, best.scores], aggregation)
    return rewrite.answer is not None and rewrite.text.strip() != best.text.strip() and new > old
