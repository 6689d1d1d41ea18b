"""Completions from a model behind an OpenAI-compatible endpoint, each as soon as it ends: no engine, no Ray."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from typing import Any

from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.benchmarks import Sampling
from openrlhf_math.evaluation.sampler import Request, seed_of
from openrlhf_math.rerank import roles
from openrlhf_math.rerank.endpoint_sampler import EndpointModel, EndpointSampler
from openrlhf_math.rerank.here import run_here
from openrlhf_math.side_by_side import end

AHEAD = 4  # tasks for each request that may be under way: a waiting one holds only its prompt


class EndpointCompletions:
    """What `sampler.Sampler` is for an engine. Its requests' prompts are messages."""

    def __init__(self, endpoint: EndpointModel, seed: int, drawn: Mapping[str, object] | None = None) -> None:
        """drawn: fields of `roles.Sampling` that no benchmark has, `watch` too."""
        self._endpoint, self._seed, self._more = endpoint, seed, drawn or {}

    def complete(
        self, requests: Iterable[Request], sampling: Sampling, stop: tuple[str, ...]
    ) -> Iterator[tuple[Request, roles.Completion]]:
        """Completions in the order they end.

        Raises UserError if the endpoint never answers, and when all others are made, if some got no reply.
        """
        yield from run_here(self._made(iter(requests), sampling, stop))

    async def _made(
        self, requests: Iterator[Request], sampling: Sampling, stop: tuple[str, ...]
    ) -> AsyncGenerator[tuple[Request, roles.Completion], None]:
        sampler = EndpointSampler(self._endpoint)
        under_way: dict[asyncio.Task[roles.Completion], Request] = {}
        lost: list[str] = []
        try:
            while True:
                while len(under_way) < AHEAD * self._endpoint.endpoint.concurrency:
                    if (request := next(requests, None)) is None:
                        break
                    drawn = self._drawn(request, sampling, stop)
                    under_way[asyncio.create_task(sampler.complete(request.prompt, drawn))] = request
                if not under_way:
                    break
                done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    request = under_way.pop(task)
                    try:
                        completion = task.result()
                    except roles.RequestError as error:
                        lost.append(f"problem {request.problem}: {error}")
                        continue
                    yield request, completion
        except roles.Unavailable as error:
            raise UserError(f"{error}; what it made is kept, run the same command again") from None
        finally:
            await end(under_way)
            await sampler.close()
        if lost:
            raise UserError(
                f"completions that are missing: {len(lost)} ({lost[0]}); the others are kept, run the command again"
            )

    def _drawn(self, request: Request, sampling: Sampling, stop: tuple[str, ...]) -> roles.Sampling:
        values: dict[str, Any] = dict(
            self._more,
            **sampling.of_a_token(),
            max_tokens=sampling.max_tokens,  # None: as many as the endpoint allows
            stop=stop,
            seed=seed_of(self._seed, request) if sampling.temperature else None,
        )
        return roles.Sampling(**values)
