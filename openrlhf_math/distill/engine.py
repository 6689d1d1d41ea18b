"""The teacher in vLLM engines: one in this process, or several as Ray actors on a cluster."""

import contextlib
import os
import socket
import threading
import time
from collections import Counter

from openrlhf_math.colocation.layout import cores, engine_start, enter_environment, worker_environment
from openrlhf_math.distill.settings import DistillSettings
from openrlhf_math.distill.teachers import Failure, Question, Reply
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.inputs import load_tokenizer
from openrlhf_math.grpo.settings import count_parameters

AGAIN = "what it answered is kept, run the same command again"


class Engine:
    """One vLLM engine that answers questions. The attempts at a problem share its prompt in the prefix cache."""

    def __init__(self, settings: DistillSettings) -> None:
        """Raises UserError if vLLM cannot serve the model."""
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        device = settings.engine.device
        arguments = AsyncEngineArgs(
            settings.model,
            tensor_parallel_size=settings.engine.tensor_parallel,
            max_model_len=settings.engine.max_context,
            dtype="bfloat16",
            enforce_eager=device == "cpu",
            enable_prefix_caching=True,
            max_num_seqs=settings.engine.concurrency,
            # A prompt prefilled in parts cannot have a seed of its own on the CPU: vLLM 0.29 rewinds its generator by
            # an offset, which only CUDA's have.
            enable_chunked_prefill=device != "cpu",
            disable_log_stats=True,
            worker_extension_cls=f"{__name__}.DiesWithEngine",
        )
        try:
            with engine_start(device):
                self._llm = AsyncLLM.from_engine_args(arguments)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"--model {settings.model}: vLLM cannot start with it ({_one_line(error)})") from error
        self._tokenizer = load_tokenizer("--model", settings.model, True, "choose a chat model")
        self._settings, self._tied = settings, False

    async def answer(self, question: Question) -> Reply:
        """Raises Failure if the engine refuses the prompt (it leaves no room), UserError if the engine died."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.exceptions import VLLMValidationError
        from vllm.v1.engine.exceptions import EngineDeadError

        if not self._tied:
            self._tied = True
            await self._llm.collective_rpc("die_with", args=(socket.gethostname(), os.getpid()))
        text = self._tokenizer.apply_chat_template(question.messages, tokenize=False, add_generation_prompt=True)
        prompt = TokensPrompt(prompt_token_ids=self._tokenizer(text, add_special_tokens=False)["input_ids"])
        sampling = SamplingParams(
            temperature=self._settings.temperature,
            top_p=self._settings.top_p,
            max_tokens=self._settings.max_tokens,
            seed=question.seed,
        )
        try:
            async for output in self._llm.generate(prompt, sampling, f"{question.key}-{question.attempt}"):
                last = output
        except (ValueError, VLLMValidationError) as error:
            raise Failure(f"the engine refuses it: {_one_line(error)}") from None
        except EngineDeadError:
            raise UserError(f"--teacher engine: the engine died, its message is above; {AGAIN}") from None
        (completion,) = last.outputs
        opened = "<think>\n" if text.rstrip().endswith("<think>") else ""  # the chat template opens the thinking part
        return Reply(opened + completion.text, "", completion.finish_reason or "", len(completion.token_ids))

    def shutdown(self) -> None:
        self._llm.shutdown()


class DiesWithEngine:
    """An extension of vLLM's workers: after a `kill -9` of the process that started them they end too. vLLM's own
    processes would stay, and hold the memory that the next run needs."""

    def die_with(self, host: str, pid: int) -> None:
        def watch() -> None:
            while os.path.exists(f"/proc/{pid}"):
                time.sleep(1)
            os._exit(1)

        if socket.gethostname() == host:  # a worker on another node is Ray's to end
            threading.Thread(target=watch, daemon=True).start()


class EngineTeacher:
    """See `teachers.Teacher`."""

    def __init__(self, settings: DistillSettings) -> None:
        self._settings = settings
        self.lanes = settings.engine.concurrency * max(settings.engine.engines, 1)
        self.troubles: Counter[str] = Counter()
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

    async def __aexit__(self, *exception) -> None:
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
def ray_engines(settings: DistillSettings, environment: dict[str, str]):
    """Functions from a question to a reply, one an engine: Ray actors wherever the cluster has room."""
    import ray

    joined, wanted = ray.is_initialized(), settings.engine.engines
    if not joined:
        _start_ray(ray, environment, wanted)
    gpus = settings.engine.tensor_parallel if settings.engine.device == "cuda" else 0
    for name, each in (("GPU", gpus), ("CPU", 1)):
        there = ray.cluster_resources().get(name, 0)
        if there < each * wanted:
            raise UserError(
                f"--engines {wanted}: the Ray cluster has {there:g} of the {each * wanted} {name}s they need; "
                "lower it, or add nodes"
            )
    actor = ray.remote(Engine).options(num_gpus=gpus, num_cpus=1, max_concurrency=settings.engine.concurrency)
    engines = [actor.remote(settings) for _ in range(wanted)]
    try:
        yield [_asker(engine, ray) for engine in engines]
    finally:
        for engine in engines:
            ray.kill(engine)
        if not joined:
            ray.shutdown()


def _start_ray(ray, environment: dict[str, str], engines: int) -> None:
    """Join the cluster in RAY_ADDRESS (set by `ray job submit`), or start one for this run alone."""
    common = {"runtime_env": {"env_vars": environment}, "log_to_driver": False, "logging_level": "error"}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**common)
    else:
        os.environ.update(environment)
        ray.init(address="local", include_dashboard=False, num_cpus=max(cores(), engines), **common)


def _asker(engine, ray):
    async def ask(question: Question) -> Reply:
        try:
            return await engine.answer.remote(question)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, (Failure, UserError)):
                raise error.cause from None
            raise
        except ray.exceptions.RayActorError as error:
            said = str(error).rpartition("UserError: ")[2]  # ours, if its start failed
            raise UserError(f"--teacher engine: an engine died ({_one_line(said)}); {AGAIN}") from None

    return ask


def _one_line(error: object) -> str:
    """The beginning of an error's words."""
    return " ".join(str(error).split())[:300]
