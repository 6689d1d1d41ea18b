"""One problem as a strategy sees it: the models, the sampling settings and the budget."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from openrlhf_math.rerank.anytime import Attempt
from openrlhf_math.rerank.budget import Budget
from openrlhf_math.rerank.confidence import Floor
from openrlhf_math.rerank.roles import UNSURE, Completion, CutOff, Lost, Messages, Sampler, Sampling, Scorer
from openrlhf_math.rewards.extract import extract
from openrlhf_math.seeds import derived_seed
from openrlhf_math.tools.attempt import ToolUse


@dataclass(frozen=True, slots=True)
class Turn:
    """How an attempt is asked for. by: name of the solver whose turn it is."""

    messages: Messages
    sampling: Sampling
    by: str = ""


def seed_of(seed: int | None, problem: str, number: int) -> int | None:
    """Of an attempt, 31 bits: attempts at other problems are drawn otherwise too. None stays None."""
    return None if seed is None else derived_seed(f"{seed} {number} {problem}")


class Metered:
    """A sampler whose tokens are spent from a budget when they are written, whatever becomes of them.

    attempts: whether its completions are attempts, of which one that is cancelled is missing.
    """

    def __init__(self, sampler: Sampler, budget: Budget, attempts: bool = True) -> None:
        self.sampler, self.budget, self._attempts = sampler, budget, attempts

    async def complete(self, messages: Messages, sampling: Sampling) -> Completion:
        try:
            completion = await self.sampler.complete(messages, sampling)
        except CutOff as cut:
            self.budget.spend(cut.tokens)
            self.budget.uncounted += self._attempts and cut.at_least
            raise
        except Lost as lost:
            self.budget.spend(lost.tokens)
            raise
        except asyncio.CancelledError:
            self.budget.uncounted += self._attempts
            raise
        self.budget.spend(completion.tokens + completion.dropped)
        return completion


@dataclass(frozen=True, slots=True)
class Task:
    """A problem and what there is to solve it. The sampler is `Metered` by the budget; a strategy that writes with
    anything else spends the tokens itself.

    problem          its text, which the scorer reads
    turn             from the number of an attempt, 0, 1, ..., to how it is asked for
    max_concurrency  completions under way at the same time at the most
    style            where the answer is in a completion, see `RewardConfig`
    floor            how unsure an attempt may become, which is learnt as they are judged; None: as unsure as it likes
    """

    problem: str
    turn: Callable[[int], Turn]
    sampler: Sampler
    scorer: Scorer | None
    budget: Budget
    max_concurrency: int
    style: str = "boxed"
    floor: Floor | None = None

    @property
    def at_once(self) -> int:
        """The former name of `max_concurrency`, which a user's strategy may read."""
        return self.max_concurrency

    def __post_init__(self) -> None:
        if not (isinstance(self.sampler, Metered) and self.sampler.budget is self.budget):
            object.__setattr__(self, "sampler", Metered(self.sampler, self.budget))
        if (spending := getattr(self.scorer, "spending", None)) is not None:  # one that writes before it judges
            object.__setattr__(self, "scorer", spending(self.budget))

    async def judged(self, turn: Turn, completions: Sequence[Completion]) -> Attempt:
        """A finished attempt out of its pieces, in order: its answer extracted, its steps scored."""
        text = turn.sampling.prefix + "".join(one.text for one in completions)
        scorer = self.scorer if completions[-1].finished != UNSURE else None
        scores = (await scorer.score(self.problem, [text]))[0] if scorer else None
        tokens = sum(one.tokens for one in completions)
        confidence = completions[0].confidence if len(completions) == 1 else None
        finished = completions[-1].finished
        if self.floor:
            self.floor.note(confidence)
        # What was ended before its end has no answer, whatever is in it.
        answer = None if finished == UNSURE else extract(text, self.style).answer
        uses = [one.tool for one in completions if one.tool]
        use = sum(uses, ToolUse()) if uses else None
        return Attempt(answer, scores, tokens, text, turn.by, finished, use, confidence)


Strategy = Callable[[Task], AsyncGenerator[Attempt, None]]


def hands_over(strategy: Strategy, whether: bool = True) -> Strategy:
    """Mark a strategy whose attempts in `Budget.waiting` may be counted at the deadline as they are. Of a user's that
    works with another's attempts they may not: it might drop them, or change them."""
    vars(strategy)["hands_over"] = whether
    return strategy


def does_hand_over(strategy: Strategy) -> bool:
    return getattr(strategy, "hands_over", False)
