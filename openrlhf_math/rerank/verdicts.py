"""A verifier that thinks before it judges: any sampler as a scorer."""

import copy
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from openrlhf_math.concurrency import gather
from openrlhf_math.data.trace import ENDS
from openrlhf_math.rerank.aggregate import Scores
from openrlhf_math.rerank.budget import Budget
from openrlhf_math.rerank.endpoint_sampler import EndpointModel
from openrlhf_math.rerank.roles import Lost, RequestError, Sampler, Sampling
from openrlhf_math.rerank.steps import harmless, without_common_controls
from openrlhf_math.rerank.task import Metered, seed_of
from openrlhf_math.rewards.thinking import behind_thinking

QUESTION = (
    "Problem:\n{problem}\n\nSolution:\n{solution}\n\n"
    "Check the solution step by step. Then write one last line, Verdict: Yes if it is correct, or Verdict: No."
)
GRADE_QUESTION = (
    "Problem:\n{problem}\n\nSolution:\n{solution}\n\n"
    "Check the solution step by step. Then write one last line, Grade: and a whole number from 0, the final answer is "
    "wrong, to 10, it is certainly right."
)

MOST_VOTES = 1024  # of a model, on one question

_VERDICT = re.compile(r"verdict\W*(?:(?:boxed|text)\{\W{0,2}){0,2}(yes|no)\b", re.IGNORECASE)
# With all that belongs to the number: the last grade counts, also where it is none that was asked for.
_GRADE = re.compile(r"grade\W{0,8}?(?:boxed\{)?(-?\d[\d./–-]{0,15})", re.IGNORECASE)
_WHOLE = re.compile(r"(\d|10)(?:/10)?\.?")


def verdict(critique: str) -> bool | None:
    """What a critique says at its end, None if it gives no verdict. What it only thought does not count."""
    found = _VERDICT.findall(behind_thinking(critique))
    return found[-1].lower() == "yes" if found else None


def grade(critique: str) -> float | None:
    """The grade a critique gives at its end, 0 to 1; None if that is no whole number from 0 to 10, as 8.5 or 5/5."""
    found = _GRADE.findall(behind_thinking(critique))
    whole = _WHOLE.fullmatch(found[-1]) if found else None
    return int(whole[1]) / 10 if whole else None


@dataclass(frozen=True, slots=True)
class AskedKind:
    """How a model is asked for its judgement. question: with places for {problem} and {solution}. read: from what it
    writes to a number from 0 to 1, None if there is none."""

    question: str
    read: Callable[[str], float | None]


# Scorers that are chat models behind an endpoint.
ASKED = {"verdict": AskedKind(QUESTION, verdict), "graded": AskedKind(GRADE_QUESTION, grade)}


@dataclass(frozen=True, slots=True)
class AskedScorerSettings:
    """A chat model behind an endpoint as a scorer. Raises ValueError for values that cannot work.

    kind       a name of ASKED
    endpoint   which model, and where
    votes      judgements of one completion, which are averaged
    sampling   how each is drawn
    """

    kind: str
    endpoint: EndpointModel
    votes: int = 4
    sampling: Sampling = Sampling(max_tokens=4096)
    separator: None = None  # a completion is judged as a whole

    def __post_init__(self) -> None:
        if not 1 <= self.votes <= MOST_VOTES:
            raise ValueError(f"--scorer-votes {self.votes}: give 1 or more, at most {MOST_VOTES}")

    @property
    def model(self) -> str:
        return self.endpoint.model


class VotingVerifier:
    """The share of critiques that call the solution correct; see `roles.Scorer`.

    GenRM-CoT with majority voting, https://arxiv.org/abs/2408.15240, averages the probability of Yes over critiques; a
    sampler gives verdicts only, so here these are averaged. The sampler may be the one that solved.
    """

    def __init__(
        self,
        sampler: Sampler,
        votes: int = 4,
        sampling: Sampling = Sampling(max_tokens=1024),  # noqa: B008  immutable
        question: str = QUESTION,
        controls: Iterable[str] = (),
        read: Callable[[str], float | None] = verdict,
        whole: bool = False,
    ) -> None:
        """question: with places for {problem} and {solution}. controls: texts of the sampler's control tokens
        (`steps.control_tokens`), which a solution that spells them is kept from using, with those that are common.
        read: from a critique to a number from 0 to 1, or None. whole: raise Lost where a critique is lost; else the
        others are averaged.

        With a seed, each vote on each solution has one made of it, see `task.seed_of`.
        """
        if votes < 1:
            raise ValueError(f"votes is {votes}, it must be at least 1")
        self._sampler, self._votes, self._sampling = sampler, votes, sampling
        self._question, self._controls, self._read, self._whole = question, {*controls, *ENDS}, read, whole

    def spending(self, budget: Budget) -> "VotingVerifier":
        """The same verifier, whose tokens are spent from a budget when they are written."""
        sampler = self._sampler.sampler if isinstance(self._sampler, Metered) else self._sampler
        other = copy.copy(self)
        other._sampler = Metered(sampler, budget, attempts=False)
        return other

    async def score(self, problem: str, responses: Sequence[str]) -> list[Scores]:
        """None for a response without text, one that is too long, and one on which no critique gave a verdict."""
        return await gather(self._score(problem, response) for response in responses)

    async def _score(self, problem: str, response: str) -> Scores:
        if not response.strip():
            return None
        question = self._question.format(problem=problem, solution=response.strip())
        content = harmless(without_common_controls(question), self._controls)
        messages = [{"role": "user", "content": content}]
        seed = self._sampling.seed
        requests = [replace(self._sampling, seed=seed_of(seed, question, vote)) for vote in range(self._votes)]
        votes = await gather(self._vote(messages, request) for request in requests)
        given = [vote for vote in votes if vote is not None]
        return sum(given) / len(given) if given else None

    async def _vote(self, messages: list[dict[str, str]], request: Sampling) -> float | None:
        try:
            return self._read((await self._sampler.complete(messages, request)).text)
        except RequestError as error:
            if self._whole and isinstance(error, Lost):
                raise
            return None
