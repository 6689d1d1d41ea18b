"""The teacher in vLLM engines: one in this process, or several as Ray actors on a cluster."""

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from openrlhf_math.colocation.cluster import check_room, cluster
from openrlhf_math.colocation.engine_life import engine_errors, limited
from openrlhf_math.colocation.layout import enter_environment, worker_environment
from openrlhf_math.distill.settings import DistillSettings
from openrlhf_math.distill.teachers import Question, sampling_of
from openrlhf_math.endpoint.reply import Answer, Failure
from openrlhf_math.errors import UserError
from openrlhf_math.modeling.model_folder import count_parameters
from openrlhf_math.rerank.roles import RequestError
from openrlhf_math.rerank.sampling_engine import SamplerSettings, SamplingEngine
from openrlhf_math.rewards.thinking import OPEN, in_think_tags

if TYPE_CHECKING:
    from ray.actor import ActorHandle

AGAIN = "what it answered is kept, run the same command again"
# Of a GPU, which the engine has for itself and never leaves: vLLM's defaults.
MEMORY = 0.92
NO_SLEEP = {"enable_sleep_mode": False}


class Engine(SamplingEngine):
    """One vLLM engine that answers questions. The attempts at a problem share its prompt in the prefix cache."""

    def __init__(self, settings: DistillSettings) -> None:
        """Raises UserError if vLLM cannot serve the model, or the tool is unavailable here."""
        engine = settings.engine
        super().__init__(
            SamplerSettings(
                settings.model,
                engine.device,
                tensor_parallel=engine.tensor_parallel,
                max_context=engine.max_context,
                max_concurrency=engine.concurrency,
                memory=MEMORY,
                engine_args=(NO_SLEEP if engine.device == "cuda" else {}) | engine.engine_args,
                tool=settings.tool,
            )
        )
        self._settings = settings

    async def answer(self, question: Question) -> Answer:
        """Raises Failure if the chat template or the engine refuses the question, UserError if the engine died."""
        sampling = sampling_of(question, self._settings)
        try:
            completion = await self.complete(question.messages, sampling)
        except RequestError as error:
            raise Failure(str(error)) from None
        except UserError as error:
            raise UserError(f"{error}; {AGAIN}") from None
        text = in_think_tags(completion.text)
        prompt = await self._prompts.ids(question.messages, sampling.prefix, sampling.template_variables)  # remembered
        if OPEN not in text and self._text.opens_thinking(prompt):
            text = f"{OPEN}\n{text}"
        finished = "stop" if completion.finished == "eos" else completion.finished
        use = completion.tool.as_row() if completion.tool else None
        return Answer(text, "", finished, completion.tokens, tool=use)


Asker = Callable[[Question], Awaitable[Answer]]


class EngineTeacher:
    """See `teachers.Teacher`."""

    def __init__(self, settings: DistillSettings) -> None:
        self._settings = settings
        self.workers = settings.engine.concurrency * max(settings.engine.engines, 1)
        self.failed_tries: Counter[str] = Counter()
        self._stack = contextlib.ExitStack()

    async def __aenter__(self) -> "EngineTeacher":
        settings = self._settings
        environment = worker_environment(settings.engine.device, count_parameters(settings.model))
        if settings.engine.engines:
            self._engines = self._stack.enter_context(ray_engines(settings, environment))
        else:
            enter_environment(settings.engine.device, count_parameters(settings.model))
            engine = Engine(settings)
            self._stack.callback(engine.shutdown)
            self._engines = [engine.answer]
        self._under_way = [0] * len(self._engines)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._stack.close()

    async def answer(self, question: Question) -> Answer:
        """Ask the engine with the least to do."""
        number = self._under_way.index(min(self._under_way))
        self._under_way[number] += 1
        try:
            return await self._engines[number](question)
        finally:
            self._under_way[number] -= 1


@contextlib.contextmanager
def ray_engines(settings: DistillSettings, environment: dict[str, str]) -> Iterator[list[Asker]]:
    """Functions from a question to a reply, one an engine: Ray actors wherever the cluster has room."""
    import ray

    wanted = settings.engine.engines
    gpus = settings.engine.tensor_parallel if settings.engine.device == "cuda" else 0
    with cluster(environment, wanted):
        check_room(f"--engines {wanted}", wanted, gpus * wanted)
        remote: Any = ray.remote(limited(Engine))  # Ray's types do not say that it is a class
        actor = remote.options(num_gpus=gpus, num_cpus=1, max_concurrency=settings.engine.concurrency)
        engines = [actor.remote(settings) for _ in range(wanted)]
        try:
            yield [_asker(engine) for engine in engines]
        finally:
            for engine in engines:
                ray.kill(engine)


def _asker(engine: "ActorHandle") -> Asker:
    async def ask(question: Question) -> Answer:
        with engine_errors("--teacher engine: an engine", AGAIN):
            return await engine.answer.remote(question)

    return ask
