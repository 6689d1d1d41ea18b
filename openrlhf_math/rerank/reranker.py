"""The interface for applications: solves one problem or a set, over any solver, and has the settings.

A solution is written as a row of JSON, which `openrlhf-math vote` reads.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field

from openrlhf_math.concurrency import end, gather
from openrlhf_math.rerank.anytime import Attempt, VoteState
from openrlhf_math.rerank.budget import Limits, SetBudget
from openrlhf_math.rerank.endpoint_sampler import EndpointModel
from openrlhf_math.rerank.roles import RequestError, Unavailable
from openrlhf_math.rerank.sampling_engine import SamplerSettings
from openrlhf_math.rerank.scoring_engine import ScorerSettings
from openrlhf_math.rerank.solver import Method, Solution, Solver
from openrlhf_math.rerank.verdicts import AskedScorerSettings
from openrlhf_math.rewards import RewardConfig
from openrlhf_math.runs.records import finite
from openrlhf_math.tools.attempt import ToolUse

NO_LIMITS = Limits()
ENDING = "the server is ending: no further problem is solved"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a problem is: the attempts counted so far, their tokens, and what would be answered now."""

    attempts: int
    answer: str | None
    votes: tuple[int, ...]
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Solved:
    """One problem of several that is done. error: why it has no solution, a sentence; else None."""

    number: int
    solution: Solution | None
    error: str | None = None


class Reranker:
    """Solves problems with one solver, and says whether it can."""

    def __init__(self, solver: Solver, checks: Sequence[Callable[[], Awaitable[None]]] = ()) -> None:
        """checks: of what the solver needs; each raises `roles.Unavailable` if that cannot work."""
        self._solver, self._checks = solver, checks
        self._sets: list[SetBudget] = []
        self._closed = False

    async def check(self) -> None:
        """Raises Unavailable if no problem can be solved now, Gone if none ever will."""
        await gather(check() for check in self._checks)

    async def stop(self) -> None:
        """What is under way ends now, each problem with the best it has."""
        for budgets in self._sets:
            budgets.stop()

    async def close(self) -> None:
        """As `stop`, and further problems are refused: they raise Unavailable."""
        self._closed = True
        await self.stop()

    async def solve(self, problem: str, method: Method, limits: Limits = NO_LIMITS) -> Solution:
        """See `Solver.solve`. Cancelling the call cancels all it has under way."""
        async for done in self.solve_all([problem], method, limits):
            if done.solution is not None:
                return done.solution
            raise RequestError(done.error)
        raise AssertionError("one problem has one result")

    async def stream(
        self, problem: str, method: Method, each: Limits = NO_LIMITS, total: Limits = NO_LIMITS
    ) -> AsyncGenerator[Progress | Solved, None]:
        """A `Progress` for every attempt that is counted, then the `Solved`. Raises what solving raises."""
        news: asyncio.Queue = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def counted(state: VoteState) -> None:
            loop.call_soon_threadsafe(news.put_nowait, progress(state))

        async def work() -> None:
            try:
                async for done in self.solve_all([problem], method, each, total, counted=counted):
                    news.put_nowait(done)
            except Exception as error:  # or callers that wait for progress would never wake up
                news.put_nowait(error)

        working = asyncio.create_task(work())
        try:
            while not isinstance(one := await news.get(), Solved | Exception):
                yield one
            if isinstance(one, Exception):
                raise one
            yield one
        finally:
            await end([working])

    async def solve_all(
        self,
        problems: Sequence[str],
        method: Method,
        each: Limits = NO_LIMITS,
        total: Limits = NO_LIMITS,
        max_concurrency: int = 4,
        counted: Callable[[VoteState], None] = lambda state: None,
    ) -> AsyncGenerator[Solved, None]:
        """Solve a set of problems, `max_concurrency` at a time, each yielded when it is done, whatever became of it.

        each, total: what one problem, and what all of them together, may spend.
        """
        if self._closed:
            raise Unavailable(ENDING)
        budgets = SetBudget(total, each, len(problems), max_concurrency)
        free = asyncio.Semaphore(max_concurrency)

        async def one(number: int) -> Solved:
            async with free:
                with budgets.problem() as budget:
                    try:
                        return Solved(number, await self._solver.solve(problems[number], method, budget, counted))
                    except RequestError as error:
                        return Solved(number, None, str(error))

        tasks = [asyncio.create_task(one(number)) for number in range(len(problems))]
        self._sets.append(budgets)
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            self._sets.remove(budgets)
            await end(tasks)


def progress(state: VoteState) -> Progress:
    number = state.chosen()
    tokens = sum(attempt.tokens for attempt in state.attempts)
    return Progress(
        len(state.attempts), None if number is None else state.attempts[number].answer, state.votes(), tokens
    )


@dataclass(frozen=True, slots=True)
class RerankerSettings:
    """What a Reranker is made of. Raises ValueError for values that cannot work.

    scorer  None for rules that need no scores; with a sampler or scorer behind an endpoint see `here`
    shared  sampler and scorer take turns on one device
    """

    sampler: SamplerSettings | EndpointModel
    scorer: ScorerSettings | AskedScorerSettings | None = None
    rewards: RewardConfig = field(default_factory=RewardConfig)
    shared: bool = False

    def __post_init__(self) -> None:
        if self.shared:
            if self.scorer is None:
                raise ValueError("there is no scorer that could share the sampler's device")
            if not (isinstance(self.sampler, SamplerSettings) and isinstance(self.scorer, ScorerSettings)):
                raise ValueError("one of the two models is behind an endpoint, and needs no device")
            for name in ("replicas", "tensor_parallel"):
                if getattr(self.sampler, name) > 1 or getattr(self.scorer, name) > 1:
                    raise ValueError("only one sampler and one scorer, each on one device, can share it")


def row(number: int, problem: str, gold: str | None, solved: Solved) -> dict:
    """The problem with its answer, its attempts, and what they cost. Keys stay; those of `vote` are gold to tokens.

    tokens_used: all that were written, also by attempts that are not_counted. unscored: attempts without a score; their
    `score` is the lowest of the problem. votes: of each cluster. answer_clusters: of each attempt, which
    answer it gives. scores: None without a scorer.
    score: of each attempt, aggregated. confidence: of the model in each attempt, see `Confidence`; None if not
    measured. left_out: attempts that had no vote, as the least confident. unmeasured, by_model: see `Decision`.
    tool_calls, tool_failed, tool_seconds: of each attempt, see `ToolUse`; only with a tool, whose output is in the
    responses and not in the tokens.
    error: why there is no solution.
    """
    solution = solved.solution
    if solution is None:
        return {"number": number, "problem": problem, "gold": gold, "answer": None, "error": solved.error,
                "responses": [], "scores": None, "tokens": []}  # fmt: skip
    decision, attempts = solution.decision, solution.attempts
    return {
        "number": number,
        "problem": problem,
        "gold": gold,
        "answer": solution.answer,
        "chosen": decision.attempt,
        "text": solution.text,
        "votes": list(decision.votes),
        "ended": decision.ended,
        "tokens_used": decision.tokens,
        "tokens_saved": decision.tokens_saved,
        "not_counted": decision.not_counted,
        "unscored": decision.unscored if solution.scored else 0,
        "left_out": decision.left_out,
        "unmeasured": decision.unmeasured,
        "by_model": decision.by_model,
        "seconds": round(solution.seconds, 3),
        "responses": [attempt.text for attempt in attempts],
        "answers": [attempt.answer for attempt in attempts],
        "answer_clusters": list(solution.answer_clusters),
        "scores": [finite(attempt.scores) for attempt in attempts] if solution.scored else None,
        "score": list(solution.scores),
        "confidence": confidence_of(attempts),
        "tokens": [attempt.tokens for attempt in attempts],
        "by": [attempt.by for attempt in attempts],
        **_tool(attempts),
    }


def _tool(attempts: Sequence[Attempt]) -> dict[str, list]:
    """Of each attempt, where there is a tool."""
    if not any(attempt.tool for attempt in attempts):
        return {}
    uses = [(attempt.tool or ToolUse()).as_row() for attempt in attempts]
    return {name: [use[name] for use in uses] for name in ToolUse().as_row()}


def confidence_of(attempts: Sequence[Attempt]) -> list[dict | None] | None:
    """Of each attempt; None if not measured."""
    if all(attempt.confidence is None for attempt in attempts):
        return None
    return [asdict(attempt.confidence) if attempt.confidence else None for attempt in attempts]
