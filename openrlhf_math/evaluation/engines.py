"""Completions from several engines at once: Ray actors, each with a vLLM engine on its own devices."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import ray

from openrlhf_math.colocation.cluster import check_room, cluster
from openrlhf_math.colocation.engine_life import engine_errors
from openrlhf_math.colocation.layout import worker_environment
from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.benchmarks import Sampling
from openrlhf_math.evaluation.sampler import Request, Sampler
from openrlhf_math.evaluation.settings import EvalSettings
from openrlhf_math.modeling.model_folder import count_parameters
from openrlhf_math.rerank.roles import Completion

DIED = "what the engines made is kept, run the same command again"
POLL_SECONDS = 60.0


class EngineActor:
    """One of the engines. It is started by a call, whose errors reach the caller as they are."""

    def start(self, settings: EvalSettings, context: int) -> None:
        self._sampler = Sampler(settings, context)

    def complete(
        self, requests: list[Request], sampling: Sampling, stop: tuple[str, ...]
    ) -> Iterator[tuple[Request, Completion]]:
        yield from self._sampler.complete(requests, sampling, stop)


class Engines:
    """What `sampler.Sampler` is for one engine. All samples of a problem are made by one engine, which computes their
    prompt once.
    """

    def __init__(self, settings: EvalSettings, context: int, stack: contextlib.ExitStack) -> None:
        """stack: with its end the engines end. Raises UserError if the cluster has no room, or vLLM cannot serve the
        model."""
        environment = worker_environment(settings.device, count_parameters(settings.model))
        gpus = settings.tensor_parallel if settings.device == "cuda" else 0
        stack.enter_context(cluster(environment, settings.engines))
        check_room("--engines", settings.engines, gpus * settings.engines)
        actor: Any = ray.remote(EngineActor)
        options = {"num_cpus": 1, "num_gpus": gpus, "runtime_env": {"env_vars": environment}}
        self._actors = [actor.options(**options).remote() for _ in range(settings.engines)]
        for one in self._actors:
            stack.callback(ray.kill, one)
        _settled([one.start.remote(settings, context) for one in self._actors])

    def complete(
        self, requests: Iterable[Request], sampling: Sampling, stop: tuple[str, ...]
    ) -> Iterator[tuple[Request, Completion]]:
        """Completions in the order they end. Raises UserError if an engine dies; the others' are given out before."""
        shares: list[list[Request]] = [[] for _ in self._actors]
        for request in requests:
            shares[request.problem % len(shares)].append(request)
        streams: list[Any] = [
            actor.complete.options(num_returns="streaming").remote(share, sampling, stop)
            for actor, share in zip(self._actors, shares, strict=True)
            if share
        ]
        lost: UserError | None = None
        while streams:
            found: list[Any] = ray.wait(streams, num_returns=1, timeout=POLL_SECONDS, fetch_local=False)[0]
            for stream in found:
                try:
                    (one,) = _settled([next(stream)])
                except StopIteration:
                    streams.remove(stream)
                except UserError as error:
                    streams.remove(stream)
                    lost = error
                else:
                    yield one
        if lost:
            raise lost


def _settled(references: list) -> list:
    """Their values. Raises UserError for what an engine refuses, and for one that died."""
    with engine_errors("one of the --engines", DIED):
        return ray.get(references)
