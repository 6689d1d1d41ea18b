"""The teacher in vLLM engines: one in this process, or several as Ray actors on a cluster."""

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from openrlhf_math.colocation.async_engine import (
    end_with_this_process,
    generation_arguments,
    one_line,
    shut_down,
    start_engine,
)
from openrlhf_math.colocation.cluster import check_room, cluster
from openrlhf_math.colocation.engine_life import engine_errors, limited
from openrlhf_math.colocation.layout import cache_arguments, enter_environment, worker_environment
from openrlhf_math.data.prompts import chat_text, prompt_ids
from openrlhf_math.distill.settings import DistillSettings
from openrlhf_math.distill.teachers import Question, Reply
from openrlhf_math.endpoint.reply import Failure
from openrlhf_math.errors import UserError
from openrlhf_math.modeling.model_folder import count_parameters, load_tokenizer
from openrlhf_math.rerank.roles import Sampling
from openrlhf_math.tools.attempt import Piece, Tool, ToolAttempt, piece_of, seed_of_request

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from vllm import SamplingParams

AGAIN = "what it answered is kept, run the same command again"


class Engine:
    """One vLLM engine that answers questions. The attempts at a problem share its prompt in the prefix cache."""

    _tool: Tool | None = None

    def __init__(self, settings: DistillSettings) -> None:
        """Raises UserError if vLLM cannot serve the model, or the tool cannot be had here."""
        engine = settings.engine
        self._tokenizer = load_tokenizer("--model", settings.model, True, "choose a chat model")
        self._tool = Tool(settings.tool, self._tokenizer, settings.model) if settings.tool else None
        arguments = {
            "tensor_parallel_size": engine.tensor_parallel,
            "max_model_len": engine.max_context,
            "max_num_seqs": engine.concurrency,
            **generation_arguments(engine.device),
            **cache_arguments(engine.device, settings.model, engine.concurrency, engine.max_context),
        }
        self._llm = start_engine("--model", settings.model, engine.device, **arguments | engine.engine_args)
        self._variables = Sampling(**settings.drawn).template_variables
        self._settings, self._tied = settings, False

    async def answer(self, question: Question) -> Reply:
        """Raises Failure if the chat template or the engine refuses the question, UserError if the engine died."""
        from vllm import SamplingParams

        if not self._tied:
            self._tied = True
            await end_with_this_process(self._llm)
        try:
            text = chat_text(self._tokenizer, question.messages, self._variables)
        except UserError as error:
            raise Failure(str(error)) from None
        (ids,) = prompt_ids(self._tokenizer, [text], chat_template=True)
        sampling = SamplingParams(
            temperature=self._settings.temperature,
            top_p=self._settings.top_p,
            max_tokens=self._settings.max_tokens,
            seed=question.seed,
        )
        name = f"{question.key}-{question.attempt}"
        opened = "<think>\n" if text.rstrip().endswith("<think>") else ""  # the chat template opens the thinking part
        if self._tool is None:
            piece = await self._generate(ids, sampling, name)
            finished = "stop" if piece.finished == "eos" else piece.finished
            return Reply(opened + piece.text, "", finished, len(piece.ids))

        async def generate(ids: list[int], most: int, stop: tuple[str, ...], number: int) -> Piece:
            asked = sampling.clone()
            asked.max_tokens, asked.stop, asked.include_stop_str_in_output = most, list(stop), True
            asked.seed = seed_of_request(question.seed, number)
            return await self._generate(ids, asked, f"{name}-{number}")

        room = self._llm.model_config.max_model_len - len(ids)
        if room < 1:
            raise Failure(f"the problem takes {len(ids)} tokens with its prompt, which leaves no room for an answer")
        attempt = ToolAttempt(self._tool)
        await attempt.write(generate, ids, min(self._settings.max_tokens, room))
        finished = "stop" if attempt.finished == "eos" else attempt.finished
        return Reply(opened + attempt.text, "", finished, attempt.tokens, attempt.use.as_row())

    async def _generate(self, ids: list[int], sampling: "SamplingParams", name: str) -> Piece:
        """What the engine makes of one request of this name."""
        from vllm import TokensPrompt
        from vllm.exceptions import VLLMValidationError
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            async for output in self._llm.generate(TokensPrompt(prompt_token_ids=ids), sampling, name):
                last = output
        except (ValueError, VLLMValidationError) as error:
            raise Failure(f"the engine refuses it: {one_line(error)}") from None
        except EngineDeadError:
            raise UserError(f"--teacher engine: the engine died, its message is above; {AGAIN}") from None
        return piece_of(last.outputs[0])

    def shutdown(self) -> None:
        shut_down(self._llm)


Asker = Callable[[Question], Awaitable[Reply]]


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

    async def answer(self, question: Question) -> Reply:
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
    async def ask(question: Question) -> Reply:
        with engine_errors("--teacher engine: an engine", AGAIN):
            return await engine.answer.remote(question)

    return ask
