"""Starting a Reranker and its engines as Ray actors, on this machine or wherever a cluster has room."""

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from openrlhf_math.colocation.cluster import check_room, cluster
from openrlhf_math.colocation.engine_life import RESTARTS, limited, take_cause
from openrlhf_math.colocation.layout import worker_environment
from openrlhf_math.errors import UserError, brief
from openrlhf_math.modeling.model_folder import count_parameters
from openrlhf_math.rerank.actors import (
    RemoteSampler,
    RemoteScorer,
    SharedDevice,
    SharingSampler,
    SharingScorer,
    Sleepers,
)
from openrlhf_math.rerank.reranker import Reranker, RerankerSettings
from openrlhf_math.rerank.roles import Sampler, Scorer
from openrlhf_math.rerank.sampling_engine import SamplerSettings, SamplingEngine
from openrlhf_math.rerank.scoring_engine import FLAG as SCORER_FLAG
from openrlhf_math.rerank.scoring_engine import ScorerSettings, ScoringEngine
from openrlhf_math.rerank.solver import Solver
from openrlhf_math.rewards import GradingPool, RewardConfig


class RerankerActor(Reranker):
    """It holds no model: what it needs is a core for comparing answers."""

    def __init__(
        self,
        samplers: Sequence[str],
        scorers: Sequence[str],
        rewards: RewardConfig,
        max_concurrency: int,
        shared: bool = False,
    ) -> None:
        """samplers, scorers: names of Ray actors; no scorers, no scores. max_concurrency: completions at once in a
        sampler. shared: whether they share a device, on which the scorers, which were loaded last, are awake and the
        samplers are not."""
        writers = RemoteSampler([ray.get_actor(name) for name in samplers], max_concurrency)
        judges = RemoteScorer([ray.get_actor(name) for name in scorers]) if scorers else None
        checks = [part.check for part in (writers, judges) if part]
        sampler: Sampler = writers
        scorer: Scorer | None = judges
        if shared and judges:
            device = SharedDevice([Sleepers(writers.actors), Sleepers(judges.actors)], awake=[1])
            sampler, scorer = SharingSampler(writers, device, 0), SharingScorer(judges, device, 1)
            checks.append(device.check)
        super().__init__(Solver(sampler, scorer, GradingPool(rewards)), checks)


if TYPE_CHECKING:
    from ray.actor import ActorHandle

# Attempts wait for the engines by intent, and a check that takes too long is not waited for: Ray would write a warning
# of the first, and a traceback of the second, to the terminal.
QUIET = {"RAY_actor_excess_queueing_warn_threshold": "1000000000", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}
# For models to be loaded, downloads included.
START_SECONDS = 2 * 3600.0


@contextlib.contextmanager
def started(settings: RerankerSettings) -> Iterator["ActorHandle"]:
    """The handle of a `Reranker` actor whose engines are up, while the block runs.

    Raises UserError if the cluster has no room, or vLLM cannot serve a model.
    """
    sampler, scorer = settings.sampler, settings.scorer
    assert isinstance(sampler, SamplerSettings) and isinstance(scorer, ScorerSettings | None)  # others: see `here`
    parts: list[SamplerSettings | ScorerSettings] = [sampler, *([scorer] if scorer else [])]
    processes = 1 + sum(part.replicas for part in parts)
    with cluster(_environment(sampler), processes), contextlib.ExitStack() as stack:
        gpus = 1 if settings.shared else sum(part.replicas * part.tensor_parallel for part in parts)
        check_room("the models", processes, gpus if sampler.device == "cuda" else 0)
        bundle = stack.enter_context(_one_device(sampler.device)) if settings.shared else {}
        names = [_names("sampler", sampler), _names("scorer", scorer)]
        samplers = _start(stack, SamplingEngine, sampler, names[0], bundle)
        if settings.shared:
            _wait_for(samplers, "--model")
            _get([sampler.sleep.remote() for sampler in samplers], "--model")  # or there is no memory for the scorer
        scorers = _start(stack, ScoringEngine, scorer, names[1], bundle)
        _wait_for(samplers, "--model")
        _wait_for(scorers, SCORER_FLAG)
        # An actor that restarts does not know which others are asleep.
        options = {"num_cpus": 1, "max_restarts": 0 if settings.shared else -1}
        actor: Any = ray.remote(limited(RerankerActor))  # Ray's types do not say that it is a class
        reranker = actor.options(**options).remote(*names, settings.rewards, sampler.at_once, settings.shared)
        stack.callback(ray.kill, reranker)
        yield reranker


@contextlib.contextmanager
def scorer_started(settings: ScorerSettings) -> Iterator[RemoteScorer]:
    """A scorer alone, whose engines are up while the block runs: for completions that are there already.

    Raises UserError as `started` does.
    """
    with _alone(ScoringEngine, settings, SCORER_FLAG) as actors:
        yield RemoteScorer(actors)


@contextlib.contextmanager
def sampler_started(settings: SamplerSettings) -> Iterator[RemoteSampler]:
    """A sampler alone, whose engines are up while the block runs. Raises UserError as `started` does."""
    with _alone(SamplingEngine, settings, "--model") as actors:
        yield RemoteSampler(actors, settings.at_once)


@contextlib.contextmanager
def _alone(engine: type, settings: SamplerSettings | ScorerSettings, flag: str) -> Iterator[list]:
    with cluster(_environment(settings), settings.replicas), contextlib.ExitStack() as stack:
        gpus = settings.replicas * settings.tensor_parallel if settings.device == "cuda" else 0
        check_room(flag, settings.replicas, gpus)
        actors = _start(stack, engine, settings, _names(flag.strip("-"), settings), {})
        _wait_for(actors, flag)
        yield actors


def _environment(part: SamplerSettings | ScorerSettings) -> dict[str, str]:
    """Of the workers; this process gets what keeps Ray quiet, too."""
    os.environ.update(QUIET)
    return worker_environment(part.device, count_parameters(part.model)) | QUIET


def _names(role: str, part: SamplerSettings | ScorerSettings | None) -> list[str]:
    """Of its actors: a Reranker that is started again finds them by name."""
    return [f"{role}-{uuid.uuid4().hex}" for _ in range(part.replicas if part else 0)]


def _start(
    stack: contextlib.ExitStack,
    engine: type,
    part: SamplerSettings | ScorerSettings | None,
    names: list[str],
    bundle: dict,
) -> list:
    """The actors of these names, which end with `stack`."""
    if part is None:
        return []
    options = {
        "num_cpus": 1,
        "num_gpus": part.tensor_parallel if part.device == "cuda" else 0,
        "max_restarts": -1,  # see `limited`
        "max_task_retries": RESTARTS,
        "runtime_env": {"env_vars": _environment(part)},
    }
    remote: Any = ray.remote(limited(engine))  # Ray's types do not say that it is a class
    actors = [remote.options(name=name, **options | bundle).remote(part) for name in names]
    for actor in actors:
        stack.callback(ray.kill, actor)
    return actors


@contextlib.contextmanager
def _one_device(device: str) -> Iterator[dict]:
    """Options of actors that are all to sit on the same device."""
    gpus = {"GPU": 1} if device == "cuda" else {}
    group = placement_group([{"CPU": 2, **gpus}])
    try:
        yield {
            "num_gpus": 0.5 if gpus else 0,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0),
        }
    finally:
        remove_placement_group(group)


def _wait_for(actors: list, flag: str) -> None:
    """Until they are up. Raises UserError with the reason if one cannot be started."""
    try:
        _get([actor.ready.remote() for actor in actors], flag)
    except ray.exceptions.RayActorError as error:
        raise UserError((error.actor_id and take_cause(error.actor_id)) or f"{flag}: {brief(error, 300)}") from None


def _get(references: list, flag: str) -> None:
    try:
        ray.get(references, timeout=START_SECONDS)
    except ray.exceptions.GetTimeoutError:
        raise UserError(f"{flag}: its engines were not up within {START_SECONDS / 3600:.0f} hours") from None
