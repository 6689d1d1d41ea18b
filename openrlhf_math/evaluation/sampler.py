"""Completions from a vLLM engine in this process, each as soon as it ends."""

import functools
import hashlib
import math
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

from openrlhf_math.colocation.async_engine import generation_arguments, one_line
from openrlhf_math.colocation.layout import inference_arguments
from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.benchmarks import MOST_TOKENS, Sampling
from openrlhf_math.evaluation.settings import EvalSettings
from openrlhf_math.patches.remote_code import remote_code_trusted
from openrlhf_math.rerank.confidence import Meter
from openrlhf_math.rerank.engine_confidence import asked, read


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to be made: of which problem, which of its samples, after which prompt.

    prompt: tokens for an engine; the messages of a chat for an endpoint.
    """

    problem: int
    sample: int
    prompt: list


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion: its text, its length in tokens, None if nobody knows, and whether the limit cut it off.

    confidence: of the model in it, see `rerank.confidence`, as plain data; None if nobody measured it.
    """

    text: str
    tokens: int | None
    truncated: bool
    confidence: dict | None = None


class Sampler:
    """A vLLM engine for one model. Raises UserError if vLLM cannot serve it."""

    def __init__(self, settings: EvalSettings, context: int) -> None:
        from vllm import LLM

        self._seed, self._watch = settings.seed, settings.watch
        try:
            engine = LLM(
                settings.model,
                tensor_parallel_size=settings.tensor_parallel,
                max_model_len=context,
                seed=settings.seed,
                dtype="bfloat16",
                use_tqdm_on_load=False,
                **generation_arguments(settings.device),
                **inference_arguments(settings.device),
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"--model {settings.model}: vLLM cannot start with it ({one_line(error)})") from error
        self._engine = engine.llm_engine
        if settings.device != "cpu":  # where the workers are processes of their own, which a killed run must not leave
            self._engine.collective_rpc("end_with", args=(socket.gethostname(), os.getpid()))

    def complete(
        self, requests: Iterable[Request], sampling: Sampling, stop: tuple[str, ...]
    ) -> Iterator[tuple[Request, Completion]]:
        """Completions in the order they end. Each has a seed of its own, which does not depend on what else is made.

        Raises UserError if the engine dies.
        """
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        named = {}
        for request in requests:
            params = SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                min_p=sampling.min_p,
                repetition_penalty=sampling.repetition_penalty,
                max_tokens=sampling.max_tokens,
                stop=list(stop),
                seed=seed_of(self._seed, request) if sampling.temperature else None,
                output_kind=RequestOutputKind.FINAL_ONLY,
                **asked(self._watch),
            )
            name = f"{request.problem}-{request.sample}"
            named[name] = request
            self._engine.add_request(name, TokensPrompt(prompt_token_ids=request.prompt), params)
        while self._engine.has_unfinished_requests():
            for output in self._step():
                (one,) = output.outputs
                yield (
                    named[output.request_id],
                    Completion(one.text, len(one.token_ids), one.finish_reason == "length", self._confidence(one)),
                )

    def _confidence(self, one) -> dict | None:
        if self._watch is None:
            return None
        meter = Meter(self._watch)
        read(one.logprobs, meter)
        return (found := meter.confidence()) and asdict(found)

    def _step(self) -> list:
        """What has ended with the next token of all."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return [output for output in self._engine.step() if output.finished]
        except EngineDeadError:
            raise UserError(
                "the engine died, its message is above; what it made is kept, run the same command again"
            ) from None


def seed_of(seed: int, request: Request) -> int:
    """The seed of one completion, 31 bits."""
    name = f"{seed} {request.problem} {request.sample}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:4], "big") >> 1


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
