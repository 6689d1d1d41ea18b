"""The sampler in a vLLM engine: in this process, or as a Ray actor."""

import asyncio
import uuid
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openrlhf_math.colocation.async_engine import (
    ServingEngine,
    check_serving,
    engine_may_die,
    generation_arguments,
    start_engine,
)
from openrlhf_math.colocation.layout import cache_arguments
from openrlhf_math.concurrency import end
from openrlhf_math.data.prompts import chat_text, prompt_ids
from openrlhf_math.errors import UserError, brief
from openrlhf_math.rerank.confidence import Meter, logprob_arguments, read_logprobs, read_until_unsure
from openrlhf_math.rerank.prompts import EngineText, Prompts
from openrlhf_math.rerank.roles import UNSURE, Completion, CutOff, Messages, RequestError, Sampling
from openrlhf_math.tools.attempt import Piece, Tool, ToolAttempt, piece_of, seed_of_request
from openrlhf_math.tools.settings import ToolSettings

if TYPE_CHECKING:
    from vllm import SamplingParams

CUT_OFF_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """How a sampler's engine is run. Raises ValueError for values that cannot work.

    model            directory or hub name of a chat model
    device           "cpu" or "cuda"
    tensor_parallel  devices the engine is spread over
    max_context      tokens of prompt and completion together; None for the model's own
    replicas         engines, each an actor with its own devices
    max_concurrency  completions under way at once in an engine; more wait
    memory           share of a GPU's memory an engine takes
    engine_args      further arguments of vLLM's engine, which go before ours
    tool             that the model may call; its programs run where the engine is
    """

    model: str
    device: str
    tensor_parallel: int = 1
    max_context: int | None = None
    replicas: int = 1
    max_concurrency: int = 64
    memory: float = 0.9
    engine_args: dict[str, object] = field(default_factory=dict)
    tool: ToolSettings | None = None

    def __post_init__(self) -> None:
        check_serving(self)

    @property
    def at_once(self) -> int:
        """Completions that an engine writes at once, whichever argument sets it."""
        return int(str(self.engine_args.get("max_num_seqs") or self.max_concurrency))


@dataclass(slots=True)
class UnderWay:
    """A completion that is being made. request: the engine's at this moment. attempt: None without the tool."""

    request: str
    task: asyncio.Task[Completion] | None = None
    attempt: ToolAttempt | None = None


class SamplingEngine(ServingEngine):
    """One engine, see `roles.Sampler`. Completions of the same prompt compute it once."""

    _tool: Tool | None = None

    def __init__(self, settings: SamplerSettings) -> None:
        """Raises UserError if vLLM cannot serve the model, it is not a chat model, or the tool is unavailable here."""
        from openrlhf_math.modeling.model_folder import load_tokenizer

        self._tokenizer = load_tokenizer("--model", settings.model, True, "choose a chat model")
        self._text = EngineText(self._tokenizer)
        self._tool = Tool(settings.tool, self._tokenizer, settings.model) if settings.tool else None
        self._cuda = settings.device == "cuda"
        arguments = {
            "tensor_parallel_size": settings.tensor_parallel,
            "max_model_len": settings.max_context,
            "max_num_seqs": settings.max_concurrency,
            **generation_arguments(settings.device),
            **_memory(settings),
        }
        self._engine = start_engine("--model", settings.model, settings.device, **arguments | settings.engine_args)
        self._context = self._engine.model_config.max_model_len
        self._prompts = Prompts(self._tokenize, self._context)
        self._under_way: dict[str, UnderWay] = {}

    def _tokenize(self, messages: Messages, prefix: str, variables: Mapping) -> list[int]:
        try:
            tools = self._tool.turns.tools if self._tool else None
            text = chat_text(self._tokenizer, messages, variables, tools)
        except UserError as error:
            raise RequestError(str(error)) from None
        (ids,) = prompt_ids(self._tokenizer, [text + prefix], chat_template=True)
        return ids

    async def complete(self, messages: Messages, sampling: Sampling, name: str | None = None) -> Completion:
        """name: for `cut_off`."""
        name = name or uuid.uuid4().hex
        one = self._under_way[name] = UnderWay(name)
        one.task = asyncio.create_task(self._complete(messages, sampling, one))
        try:
            return await asyncio.shield(one.task)
        except asyncio.CancelledError:
            raise CutOff(await self.cut_off(name)) from None
        finally:
            del self._under_way[name]

    async def cut_off(self, name: str) -> int:
        """End the completion of this name. Returns its tokens so far, which `complete` returns too."""
        one = self._under_way.get(name)
        if one is None or one.task is None:
            return 0
        if one.attempt:
            one.attempt.cut()
        await self._engine.abort(one.request)
        await asyncio.wait([one.task], timeout=CUT_OFF_SECONDS)
        await end([one.task])  # it may not have come to the engine yet
        if one.attempt:
            return one.attempt.tokens
        done = not one.task.cancelled() and one.task.exception() is None
        return one.task.result().tokens if done else 0

    async def _complete(self, messages: Messages, sampling: Sampling, one: UnderWay) -> Completion:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind

        await self.ready()
        ids = await self._prompts.ids(messages, sampling.prefix, sampling.template_variables)
        room = self._context - len(ids)
        if room < 1:
            raise RequestError(
                f"the problem takes {len(ids)} tokens with its prompt, the model's context is {self._context}: "
                "no room is left for an answer"
            )
        watch = sampling.watch
        meter = Meter(watch) if watch else None
        floored = watch is not None and watch.floor is not None and not self._tool  # pieces are read whole
        try:
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
                **{**self._text.arguments(), **sampling.more, **logprob_arguments(watch)},
            )
            if self._tool:
                return await self._with_tool(self._tool, ids, sampling, parameters, one, meter)
            return await self._without_tool(ids, parameters, one.request, meter, floored)
        except (ValueError, VLLMClientError) as error:
            raise RequestError(f"the engine refuses it ({brief(error, 300)})") from None

    async def _without_tool(
        self, ids: list[int], parameters: "SamplingParams", name: str, meter: Meter | None, floored: bool
    ) -> Completion:
        """floored: whether the completion ends where the model's confidence falls below its floor."""
        from vllm import TokensPrompt

        text, written = "", list[int]()
        with engine_may_die("--model"):
            async with aclosing(self._engine.generate(TokensPrompt(prompt_token_ids=ids), parameters, name)) as outputs:
                async for output in outputs:
                    (completion,) = output.outputs
                    text, before = text + completion.text, len(written)
                    written += completion.token_ids
                    if meter and floored:
                        tokens = before + read_until_unsure(completion.logprobs, meter)
                        if meter.sank:  # also if it ended before anybody looked: or load would decide
                            text, dropped = self._text.decoded(written[:tokens]), len(written) - tokens
                            return Completion(text, tokens, UNSURE, confidence=meter.confidence(), dropped=dropped)
                    elif meter:
                        read_logprobs(completion.logprobs, meter)
        finished, text = piece_of(completion).finished, self._text.without_end(text, completion)
        return Completion(text, len(written), finished, confidence=meter.confidence() if meter else None)

    async def _with_tool(
        self,
        tool: Tool,
        ids: list[int],
        sampling: Sampling,
        parameters: "SamplingParams",
        one: UnderWay,
        meter: Meter | None,
    ) -> Completion:
        """parameters: vLLM's, of the whole attempt. The model's confidence is that in its own tokens."""
        from vllm import TokensPrompt

        name, attempt = one.request, ToolAttempt(tool, sampling.template_variables)

        async def generate(ids: list[int], most: int, stop: tuple[str, ...], number: int) -> Piece:
            asks = parameters.clone()
            asks.max_tokens, asks.stop = most, list(stop)
            asks.min_tokens = min(max(parameters.min_tokens - attempt.tokens, 0), most)
            asks.seed = seed_of_request(sampling.seed, number)
            one.request = f"{name}-{number}"
            with engine_may_die("--model"):
                async for output in self._engine.generate(TokensPrompt(prompt_token_ids=ids), asks, one.request):
                    (completion,) = output.outputs
            if meter:
                read_logprobs(completion.logprobs, meter)
            return self._text.piece(completion)

        one.attempt = attempt
        await attempt.write(generate, ids, parameters.max_tokens, sampling.stop)
        confidence = meter.confidence() if meter else None
        return Completion(attempt.text, attempt.tokens, attempt.finished, attempt.use, confidence)


def _memory(settings: SamplerSettings) -> dict[str, object]:
    """Engine arguments of its memory."""
    if settings.device == "cuda":
        return {"gpu_memory_utilization": settings.memory, "enable_sleep_mode": True}
    return cache_arguments(settings.device, settings.model, settings.max_concurrency, settings.max_context)
