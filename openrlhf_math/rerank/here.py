"""A Reranker in this process, where the sampler or the scorer is behind an endpoint.

It starts Ray for the other one only if that is an engine. The key of an endpoint never leaves this process.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from openrlhf_math.concurrency import closing
from openrlhf_math.errors import UserError
from openrlhf_math.rerank.endpoint_sampler import EndpointModel, EndpointSampler, EndpointToolSampler
from openrlhf_math.rerank.reranker import Reranker
from openrlhf_math.rerank.roles import Sampler, Scorer, Unavailable
from openrlhf_math.rerank.solver import Solver
from openrlhf_math.rerank.verdicts import ASKED, AskedScorerSettings, VotingVerifier
from openrlhf_math.rewards import GradingPool

if TYPE_CHECKING:
    from openrlhf_math.rerank.reranker import RerankerSettings

One = TypeVar("One")
Engines = tuple[Sampler | None, Scorer | None]


def is_here(settings: "RerankerSettings") -> bool:
    """Whether a part of `RerankerSettings` is behind an endpoint."""
    return isinstance(settings.sampler, EndpointModel) or isinstance(settings.scorer, AskedScorerSettings)


@contextlib.asynccontextmanager
async def asked_scorer(settings: AskedScorerSettings, whole: bool = False) -> AsyncIterator[Scorer]:
    """A model behind an endpoint as a scorer, while the block runs. whole: see `VotingVerifier`."""
    sampler, kind = EndpointSampler(settings.endpoint), ASKED[settings.kind]
    try:
        yield VotingVerifier(sampler, settings.votes, settings.sampling, kind.question, read=kind.read, whole=whole)
    finally:
        await sampler.close()


@contextlib.contextmanager
def engines(settings: "RerankerSettings") -> Iterator[Engines]:
    """The sampler and the scorer of `RerankerSettings` that are engines, each None if it is none.

    They are Ray actors, which are up while the block runs."""
    with contextlib.ExitStack() as stack:
        sampler = scorer = None
        if not isinstance(settings.sampler, EndpointModel):
            from openrlhf_math.rerank.launch import sampler_started

            sampler = stack.enter_context(sampler_started(settings.sampler))
        if settings.scorer and not isinstance(settings.scorer, AskedScorerSettings):
            from openrlhf_math.rerank.launch import scorer_started

            scorer = stack.enter_context(scorer_started(settings.scorer))
        yield sampler, scorer


@contextlib.asynccontextmanager
async def reranker_here(
    settings: "RerankerSettings", sampler: Sampler | None, scorer: Scorer | None
) -> AsyncIterator[tuple[Reranker, Sampler]]:
    """The Reranker and its sampler, while the block runs. sampler, scorer: as `engines` gives them."""
    async with contextlib.AsyncExitStack() as stack:
        pool = stack.enter_context(contextlib.closing(GradingPool(settings.rewards)))
        if isinstance(settings.sampler, EndpointModel):
            sampler = endpoint = EndpointSampler(settings.sampler)
            stack.push_async_callback(endpoint.close)
            if settings.sampler.tool:
                sampler = EndpointToolSampler(endpoint, settings.sampler.tool)
        assert sampler is not None  # as `engines` gives one where there is no endpoint
        if isinstance(settings.scorer, AskedScorerSettings):
            scorer = await stack.enter_async_context(asked_scorer(settings.scorer))
        checks = [check for part in (sampler, scorer) if (check := getattr(part, "check", None))]
        yield Reranker(Solver(sampler, scorer, pool), checks), sampler


def solved_here(settings: "RerankerSettings", ask: Callable[[Reranker], AsyncGenerator[One, None]]) -> Iterator[One]:
    """What `ask` gives of a Reranker in this process.

    At Ctrl-C what is under way ends with the best it has; at a second one, at once.
    Raises UserError if an endpoint answers nothing, or an engine cannot be started.
    """

    async def news(parts: Engines) -> AsyncGenerator[One, None]:
        async with reranker_here(settings, *parts) as (reranker, _):
            with _interrupts(reranker):
                async with closing(ask(reranker)) as stream:
                    async for one in stream:
                        yield one

    with engines(settings) as parts:
        try:
            yield from run_here(news(parts))
        except Unavailable as error:
            raise UserError(f"{error}; what was solved before is in --output, if that was given") from None


def run_here(stream: AsyncGenerator[One, None]) -> Iterator[One]:
    """What an asynchronous generator gives, from a separate event loop, which runs while the next one is awaited."""
    with asyncio.Runner() as runner:
        try:
            while True:
                try:
                    one = runner.run(_next(stream))
                except StopAsyncIteration:
                    return
                yield one
        finally:
            runner.run(stream.aclose())


async def _next(stream: AsyncGenerator[One, None]) -> One:
    return await anext(stream)


@contextlib.contextmanager
def _interrupts(reranker: Reranker) -> Iterator[None]:
    """Ctrl-C stops the Reranker, and the next one ends this."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task] = []

    def interrupt() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        stopping.append(loop.create_task(reranker.stop()))

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
