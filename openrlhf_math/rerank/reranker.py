"""The Ray actor that solves problems."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import ray

from openrlhf_math.rerank.anytime import Poll
from openrlhf_math.rerank.budget import Limits, SetBudget
from openrlhf_math.rerank.replicas import RemoteSampler, RemoteScorer, Replicas
from openrlhf_math.rerank.roles import RequestError
from openrlhf_math.rerank.shared_device import SharedDevice, SharingSampler, SharingScorer
from openrlhf_math.rerank.solver import Method, Solution, Solver
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.side_by_side import end

NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a problem is: the attempts counted so far, and what would be answered now."""

    attempts: int
    answer: str | None
    votes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Solved:
    """One problem of several that is done. error: why it has no solution, a sentence; else None."""

    number: int
    solution: Solution | None
    error: str | None = None


class Reranker:
    """Solves problems with samplers and scorers that are actors of their own.

    It holds no model: what it needs is a core for comparing answers.
    """

    def __init__(
        self, samplers: Sequence[str], scorers: Sequence[str], rewards: RewardConfig, shared: bool = False
    ) -> None:
        """samplers, scorers: names of Ray actors; no scorers, no scores. shared: whether they share a device, on which
        the scorers, which were loaded last, are awake and the samplers are not."""
        samplers, scorers = ([ray.get_actor(name) for name in names] for names in (samplers, scorers))
        sampler, scorer = RemoteSampler(samplers), RemoteScorer(scorers) if scorers else None
        if shared and scorer:
            device = SharedDevice([Sleepers(samplers), Sleepers(scorers)], awake=[1])
            sampler, scorer = SharingSampler(sampler, device, 0), SharingScorer(scorer, device, 1)
        self._solver = Solver(sampler, scorer, GradingPool(rewards))

    async def solve(self, problem: str, method: Method, limits: Limits = NO_LIMITS) -> Solution:
        """See `Solver.solve`. Cancelling the call cancels all it has under way."""
        async for done in self.solve_all([problem], method, limits):
            if isinstance(done, Solved) and done.error is None:
                return done.solution
        raise RequestError(done.error)

    async def stream(
        self, problem: str, method: Method, each: Limits = NO_LIMITS, total: Limits = NO_LIMITS
    ) -> AsyncIterator:
        """A `Progress` for every attempt that is counted, then the `Solved`. Raises what solving raises."""
        news: asyncio.Queue = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def counted(poll: Poll) -> None:
            loop.call_soon_threadsafe(news.put_nowait, progress(poll))

        async def work() -> None:
            try:
                async for done in self.solve_all([problem], method, each, total, counted=counted):
                    news.put_nowait(done)
            except Exception as error:  # or nobody would ever wake up who waits for news
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
        at_once: int = 4,
        counted: Callable[[Poll], None] = lambda poll: None,
    ) -> AsyncIterator[Solved]:
        """Solve a set of problems, `at_once` at a time, each yielded when it is done, whatever became of it.

        each, total: what one problem, and what all of them together, may spend.
        """
        budgets = SetBudget(total, each, len(problems), at_once)
        free = asyncio.Semaphore(at_once)

        async def one(number: int) -> Solved:
            async with free:
                with budgets.problem() as budget:
                    try:
                        return Solved(number, await self._solver.solve(problems[number], method, budget, counted))
                    except RequestError as error:
                        return Solved(number, None, str(error))

        tasks = [asyncio.create_task(one(number)) for number in range(len(problems))]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            await end(tasks)


def progress(poll: Poll) -> Progress:
    number = poll.chosen()
    return Progress(len(poll.attempts), None if number is None else poll.attempts[number].answer, poll.votes())


class Sleepers(Replicas):
    """All of some actors put to sleep, and awake again."""

    async def sleep(self) -> None:
        await asyncio.gather(*(actor.sleep.remote() for actor in self.actors))

    async def wake_up(self) -> None:
        await asyncio.gather(*(actor.wake_up.remote() for actor in self.actors))
