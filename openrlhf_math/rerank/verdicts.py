"""A verifier that thinks before it judges: any sampler as a scorer."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from openrlhf_math.rerank.aggregate import Scores
from openrlhf_math.rerank.encoding import harmless
from openrlhf_math.rerank.roles import RequestError, Sampler, Sampling
from openrlhf_math.rerank.task import seed_of
from openrlhf_math.side_by_side import side_by_side

QUESTION = (
    "Problem:\n{problem}\n\nSolution:\n{solution}\n\n"
    "Check the solution step by step. Then write one last line, Verdict: Yes if it is correct, or Verdict: No."
)

_VERDICT = re.compile(r"verdict\W*(yes|no)\b", re.IGNORECASE)


def verdict(critique: str) -> bool | None:
    """What a critique says at its end, None if it gives no verdict. What it only thought does not count."""
    found = _VERDICT.findall(critique.rpartition("</think>")[2])
    return found[-1].lower() == "yes" if found else None


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
    ) -> None:
        """question: with places for {problem} and {solution}. controls: texts of the sampler's control tokens
        (`encoding.control_tokens`), which a solution that spells them is kept from using.

        With a seed, each vote on each solution has one made of it, see `task.seed_of`.
        """
        if votes < 1:
            raise ValueError(f"votes is {votes}, it must be at least 1")
        self._sampler, self._votes, self._sampling = sampler, votes, sampling
        self._question, self._controls = question, tuple(controls)

    async def score(self, problem: str, responses: Sequence[str]) -> list[Scores]:
        """None for a response without text, one that is too long, and one on which no critique gave a verdict."""
        return await side_by_side(self._score(problem, response) for response in responses)

    async def _score(self, problem: str, response: str) -> Scores:
        if not response.strip():
            return None
        question = self._question.format(problem=problem, solution=response.strip())
        messages = [{"role": "user", "content": harmless(question, self._controls)}]
        seed = self._sampling.seed
        requests = [replace(self._sampling, seed=seed_of(seed, question, vote)) for vote in range(self._votes)]
        try:
            critiques = await side_by_side(self._sampler.complete(messages, request) for request in requests)
        except RequestError:
            return None
        given = [said for critique in critiques if (said := verdict(critique.text)) is not None]
        return sum(given) / len(given) if given else None
