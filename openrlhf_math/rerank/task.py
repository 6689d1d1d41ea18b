"""One problem as a strategy sees it: who is asked, how, and what may be spent."""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from openrlhf_math.rerank.anytime import Attempt
from openrlhf_math.rerank.budget import Budget
from openrlhf_math.rerank.roles import Completion, Messages, Sampler, Sampling, Scorer
from openrlhf_math.rewards.extract import extract


@dataclass(frozen=True, slots=True)
class Turn:
    """How an attempt is asked for. by: name of the solver whose turn it is."""

    messages: Messages
    sampling: Sampling
    by: str = ""


def seed_of(seed: int | None, problem: str, number: int) -> int | None:
    """Of an attempt, 31 bits: attempts at other problems are drawn otherwise too. None stays None."""
    if seed is None:
        return None
    digest = hashlib.sha256(f"{seed} {number} {problem}".encode("utf-8", "backslashreplace")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


@dataclass(frozen=True, slots=True)
class Task:
    """A problem and what there is to solve it.

    problem   its text, which the scorer reads
    turn      from the number of an attempt, 0, 1, ..., to how it is asked for
    at_once   completions under way at the same time at the most
    style     where the answer stands in a completion, see `RewardConfig`
    """

    problem: str
    turn: Callable[[int], Turn]
    sampler: Sampler
    scorer: Scorer | None
    budget: Budget
    at_once: int
    style: str = "boxed"

    async def judged(self, turn: Turn, completions: Sequence[Completion]) -> Attempt:
        """A finished attempt out of its pieces, in order: its answer extracted, its steps scored."""
        text = turn.sampling.prefix + "".join(one.text for one in completions)
        scores = (await self.scorer.score(self.problem, [text]))[0] if self.scorer else None
        tokens = sum(one.tokens for one in completions)
        return Attempt(extract(text, self.style).answer, scores, tokens, text, turn.by, completions[-1].finished)


Strategy = Callable[[Task], AsyncIterator[Attempt]]
