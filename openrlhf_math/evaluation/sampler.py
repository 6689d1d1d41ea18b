"""Completions of a model, each as soon as it ends: from a vLLM engine in this process, or from an endpoint."""

import asyncio
import functools
import math
import os
import socket
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from openrlhf_math.colocation.async_engine import generation_arguments
from openrlhf_math.colocation.layout import CPU_SEQUENCES, cache_arguments, inference_arguments
from openrlhf_math.concurrency import end
from openrlhf_math.errors import UserError, brief
from openrlhf_math.evaluation.benchmarks import MOST_TOKENS, Sampling
from openrlhf_math.evaluation.settings import EvalSettings
from openrlhf_math.modeling.model_folder import load_tokenizer
from openrlhf_math.patches.remote_code import remote_code_trusted
from openrlhf_math.rerank import roles
from openrlhf_math.rerank.confidence import Confidence, Meter, Watch, logprob_arguments, read_logprobs
from openrlhf_math.rerank.endpoint_sampler import EndpointModel, EndpointSampler
from openrlhf_math.rerank.here import run_here
from openrlhf_math.rerank.prompts import EngineText
from openrlhf_math.rerank.roles import Completion
from openrlhf_math.seeds import derived_seed
from openrlhf_math.tools.attempt import Piece, Tool, ToolAttempt, piece_of, seed_of_request

if TYPE_CHECKING:
    from vllm import CompletionOutput, SamplingParams

# Of the event loop between two steps of the engine, which holds it up: a call of the tool takes some ten to begin and
# end, and would wait for as many steps.
PASSES = 32


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to be made: of which problem, which of its samples, after which prompt.

    prompt: tokens for an engine; the messages of a chat for an endpoint.
    """

    problem: int
    sample: int
    prompt: list


class Sampler:
    """A vLLM engine for one model. Raises UserError if vLLM cannot serve it, or the tool is unavailable here."""

    def __init__(self, settings: EvalSettings, context: int) -> None:
        from vllm import LLM

        self._seed, self._watch = settings.seed, settings.watch
        tokenizer = load_tokenizer("--model", settings.model, False, "")
        self._text = EngineText(tokenizer)
        self._tool = Tool(settings.tool, tokenizer, settings.model) if settings.tool else None
        self._waiting: dict[str, asyncio.Future] = {}  # for a request of the engine's
        try:
            arguments = {
                "tensor_parallel_size": settings.tensor_parallel,
                "max_model_len": context,
                "seed": settings.seed,
                "dtype": "bfloat16",
                "use_tqdm_on_load": False,
                **generation_arguments(settings.device),
                **inference_arguments(settings.device),
                **cache_arguments(settings.device, settings.model, CPU_SEQUENCES, context),
            }
            engine = LLM(settings.model, **arguments | settings.engine_args)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"--model {settings.model}: vLLM cannot start with it ({brief(error, 300)})") from error
        self._engine = engine.llm_engine
        if settings.device != "cpu":  # the workers are separate processes, which must not outlive a killed run
            self._engine.collective_rpc("end_with", args=(socket.gethostname(), os.getpid()))

    def complete(
        self, requests: Iterable[Request], sampling: Sampling, stop: tuple[str, ...]
    ) -> Iterator[tuple[Request, Completion]]:
        """Completions in the order they end. Each has its own seed, which does not depend on what else is made.

        Raises UserError if the engine dies.
        """
        if self._tool:
            yield from run_here(self._with_tool(self._tool, list(requests), sampling, stop))
            return
        most = limit_of(sampling)
        named = {}
        for request in requests:
            name = f"{request.problem}-{request.sample}"
            named[name] = request
            seed = self._seed_of(request, sampling)
            params = _params(sampling, most, stop, seed, self._watch, **self._text.arguments())
            self._ask(name, request.prompt, params)
        while self._engine.has_unfinished_requests():
            for output in self._step():
                (one,) = output.outputs
                finished = piece_of(one).finished
                completion = Completion(one.text, len(one.token_ids), finished, confidence=self._confidence([one]))
                yield named[output.request_id], completion

    def _confidence(self, pieces: "list[CompletionOutput]") -> Confidence | None:
        """pieces: vLLM's completions that make up one of ours, in order."""
        if self._watch is None:
            return None
        meter = Meter(self._watch)
        for one in pieces:
            read_logprobs(one.logprobs, meter)
        return meter.confidence()

    async def _with_tool(
        self, tool: Tool, requests: list[Request], sampling: Sampling, stop: tuple[str, ...]
    ) -> AsyncGenerator[tuple[Request, Completion], None]:
        """The same where the model may call the tool: the engine steps on while programs run."""
        work = asyncio.Event()

        async def one(request: Request) -> tuple[Request, Completion]:
            seed = self._seed_of(request, sampling)

            async def generate(ids: list[int], most: int, stop: tuple[str, ...], number: int) -> Piece:
                name = f"{request.problem}-{request.sample}-{number}"
                params = _params(
                    sampling, most, stop, seed_of_request(seed, number), self._watch, include_stop_str_in_output=True,
                    **self._text.arguments(),
                )  # fmt: skip
                made = self._waiting[name] = asyncio.get_running_loop().create_future()
                self._ask(name, ids, params)
                work.set()
                pieces.append(await made)
                return self._text.piece(pieces[-1])

            pieces: list[CompletionOutput] = []
            attempt = ToolAttempt(tool)
            await attempt.write(generate, request.prompt, limit_of(sampling), stop)
            text = attempt.text
            if attempt.finished == "stop":
                text = text.removesuffix(next(end for end in stop if text.endswith(end)))
            return request, Completion(text, attempt.tokens, attempt.finished, attempt.use, self._confidence(pieces))

        stepping = asyncio.create_task(self._keep_stepping(work))
        tasks = [asyncio.create_task(one(request)) for request in requests]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            await end([*tasks, stepping])

    async def _keep_stepping(self, work: asyncio.Event) -> None:
        """work: is set when there is a request. Never returns; if the engine dies, all callers get the error."""
        while True:
            while not self._engine.has_unfinished_requests():
                work.clear()
                await work.wait()
            try:
                for output in self._step():
                    (completion,) = output.outputs
                    self._waiting.pop(output.request_id).set_result(completion)
            except Exception as error:  # or they would wait for ever
                for made in self._waiting.values():
                    made.set_exception(error)
                return
            for _ in range(PASSES):
                await asyncio.sleep(0)

    def _ask(self, name: str, ids: list[int], params: "SamplingParams") -> None:
        from vllm import TokensPrompt

        self._engine.add_request(name, TokensPrompt(prompt_token_ids=ids), params)

    def _seed_of(self, request: Request, sampling: Sampling) -> int | None:
        return seed_of(self._seed, request) if sampling.temperature else None

    def _step(self) -> list:
        """What has ended with the next token of all."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return [output for output in self._engine.step() if output.finished]
        except EngineDeadError:
            raise UserError(
                "the engine died, its message is above; what it made is kept, run the same command again"
            ) from None


def limit_of(sampling: Sampling) -> int:
    """The token limit, which `fitted` has set."""
    assert sampling.max_tokens is not None
    return sampling.max_tokens


def _params(
    sampling: Sampling, most: int, stop: tuple[str, ...], seed: int | None, watch: Watch | None, **more: Any
) -> "SamplingParams":
    """vLLM's, of one request of at most so many tokens. watch: how the model's confidence is measured."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        **sampling.of_a_token(),
        max_tokens=most,
        stop=list(stop),
        seed=seed,
        output_kind=RequestOutputKind.FINAL_ONLY,
        **logprob_arguments(watch),
        **more,
    )


def seed_of(seed: int, request: Request) -> int:
    """The seed of one completion, 31 bits."""
    return derived_seed(f"{seed} {request.problem} {request.sample}")


def context_needed(prompts: dict[str, tuple[list[list[int]], int]], settings: EvalSettings) -> int:
    """Tokens the engine must hold for one request: the longest prompt and a whole completion.

    prompts: by benchmark its tokenized prompts and its token limit. Raises UserError if the model's context, or the
    given one, is smaller.
    """
    limit, flag = _context_limit(settings)
    most = 0
    for name, (prompt_ids, max_tokens) in prompts.items():
        longest = max(map(len, prompt_ids))
        needed = longest + max_tokens
        if needed > limit:
            raise UserError(
                f"{name}: the longest prompt ({longest} tokens) and --max-tokens {max_tokens} make {needed} tokens, "
                f"{flag} is {limit}; lower --max-tokens to {max(limit - longest, 0)} or less"
            )
        most = max(most, needed)
    return settings.max_context or most


def fitted(sampling: Sampling, prompt_ids: list[list[int]], settings: EvalSettings) -> Sampling:
    """With a token limit, where there was none: what the context leaves after the longest prompt, at most MOST_TOKENS.

    Raises UserError if it leaves nothing.
    """
    if sampling.max_tokens:
        return sampling
    limit, flag = _context_limit(settings)
    longest = max(map(len, prompt_ids))
    if longest >= limit:
        raise UserError(f"the longest prompt has {longest} tokens, {flag} is {limit}; drop it, or take another model")
    return replace(sampling, max_tokens=int(min(MOST_TOKENS, limit - longest)))


def _context_limit(settings: EvalSettings) -> tuple[float, str]:
    """Tokens of prompt and completion together, and what sets this limit."""
    limits = ((settings.max_context, "--max-context"), (_positions(settings.model), "the model's context"))
    return min(((limit, what) for limit, what in limits if limit), default=(math.inf, ""))


@functools.lru_cache
def _positions(model: str) -> int | None:
    """Of a model's context. Asked for each benchmark; a hub model's configuration is looked up there each time."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model, trust_remote_code=remote_code_trusted()).get_text_config()
    return getattr(config, "max_position_embeddings", None)


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
