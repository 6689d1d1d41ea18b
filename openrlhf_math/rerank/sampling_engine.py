"""The sampler in a vLLM engine: in this process, or as a Ray actor."""

import asyncio
import uuid
from contextlib import aclosing
from dataclasses import dataclass

from openrlhf_math.colocation.async_engine import (
    ServingEngine,
    check_serving,
    engine_may_die,
    generation_arguments,
    one_line,
    start_engine,
)
from openrlhf_math.colocation.layout import cache_bytes
from openrlhf_math.data.prompts import chat_text, prompt_ids
from openrlhf_math.errors import UserError
from openrlhf_math.patches.remote_code import remote_code_trusted
from openrlhf_math.rerank.confidence import Meter
from openrlhf_math.rerank.engine_confidence import asked, read
from openrlhf_math.rerank.prompts import Prompts
from openrlhf_math.rerank.roles import UNSURE, Completion, CutOff, Messages, RequestError, Sampling
from openrlhf_math.side_by_side import end

CUT_OFF_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """How a sampler's engine is run. Raises ValueError for values that cannot work.

    model            directory or hub name of a chat model
    device           "cpu" or "cuda"
    tensor_parallel  devices the engine is spread over
    max_context      tokens of prompt and completion together; None for the model's own
    replicas         engines, each an actor with devices of its own
    at_once          completions under way at once in an engine; more wait
    memory           share of a GPU's memory an engine takes
    """

    model: str
    device: str
    tensor_parallel: int = 1
    max_context: int | None = None
    replicas: int = 1
    at_once: int = 64
    memory: float = 0.9

    def __post_init__(self) -> None:
        check_serving(self)


class SamplingEngine(ServingEngine):
    """One engine, see `roles.Sampler`. Completions of the same prompt compute it once."""

    def __init__(self, settings: SamplerSettings) -> None:
        """Raises UserError if vLLM cannot serve the model, or it is no chat model."""
        from openrlhf_math.grpo.inputs import load_tokenizer

        self._tokenizer = load_tokenizer("--model", settings.model, True, "choose a chat model")
        self._cuda = settings.device == "cuda"
        self._engine = start_engine(
            "--model",
            settings.model,
            settings.device,
            tensor_parallel_size=settings.tensor_parallel,
            max_model_len=settings.max_context,
            max_num_seqs=settings.at_once,
            **generation_arguments(settings.device),
            **_memory(settings),
        )
        self._context = self._engine.model_config.max_model_len
        self._prompts = Prompts(self._tokenize, self._context)
        self._under_way: dict[str, asyncio.Task] = {}

    def _tokenize(self, messages: Messages, prefix: str) -> list[int]:
        try:
            text = chat_text(self._tokenizer, messages)
        except UserError as error:
            raise RequestError(str(error)) from None
        (ids,) = prompt_ids(self._tokenizer, [text + prefix], chat_template=True)
        return ids

    async def complete(self, messages: Messages, sampling: Sampling, name: str | None = None) -> Completion:
        """name: for `cut_off`."""
        name = name or uuid.uuid4().hex
        task = self._under_way[name] = asyncio.create_task(self._complete(messages, sampling, name))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            raise CutOff(await self.cut_off(name)) from None
        finally:
            del self._under_way[name]

    async def cut_off(self, name: str) -> int:
        """End the completion of this name. Returns its tokens so far, which `complete` returns too."""
        task = self._under_way.get(name)
        if task is None:
            return 0
        await self._engine.abort(name)
        await asyncio.wait([task], timeout=CUT_OFF_SECONDS)
        await end([task])  # it may not have come to the engine yet
        return task.result().tokens if not task.cancelled() and task.exception() is None else 0

    async def _complete(self, messages: Messages, sampling: Sampling, name: str) -> Completion:
        from vllm import SamplingParams, TokensPrompt
        from vllm.exceptions import VLLMValidationError
        from vllm.sampling_params import RequestOutputKind

        await self.ready()
        ids = await self._prompts.ids(messages, sampling.prefix)
        room = self._context - len(ids)
        if room < 1:
            raise RequestError(
                f"the problem takes {len(ids)} tokens with its prompt, the model's context is {self._context}: "
                "no room is left for an answer"
            )
        watch = sampling.watch
        meter, floored = Meter(watch) if watch else None, bool(watch) and watch.floor is not None
        parameters = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            max_tokens=min(sampling.max_tokens, room),
            stop=list(sampling.stop),
            include_stop_str_in_output=True,
            seed=sampling.seed,
            output_kind=RequestOutputKind.DELTA if floored else RequestOutputKind.FINAL_ONLY,
            **asked(watch),
        )
        prompt = TokensPrompt(prompt_token_ids=ids)
        text, tokens = "", 0
        try:
            with engine_may_die("--model"):
                async with aclosing(self._engine.generate(prompt, parameters, name)) as outputs:
                    async for output in outputs:
                        (completion,) = output.outputs
                        text, tokens = text + completion.text, tokens + len(completion.token_ids)
                        if meter:
                            read(completion.logprobs, meter)
                        if floored and meter.sank and not completion.finish_reason:
                            return Completion(text, tokens, UNSURE, meter.confidence())
        except (ValueError, VLLMValidationError) as error:
            raise RequestError(f"the engine refuses it ({one_line(error)})") from None
        finished = completion.finish_reason or ""
        if finished == "stop" and completion.stop_reason is None:
            finished = "eos"
        return Completion(text, tokens, finished, meter.confidence() if meter else None)


def _memory(settings: SamplerSettings) -> dict[str, object]:
    """Engine arguments of its memory."""
    if settings.device == "cuda":
        return {"gpu_memory_utilization": settings.memory, "enable_sleep_mode": True}
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(settings.model, trust_remote_code=remote_code_trusted())
    own = getattr(config.get_text_config(), "max_position_embeddings", None)
    return {"kv_cache_memory_bytes": cache_bytes(settings.model, settings.at_once, settings.max_context or own or 4096)}
