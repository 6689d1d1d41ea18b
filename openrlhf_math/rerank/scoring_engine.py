"""The scorer in a vLLM engine: in this process, or as a Ray actor."""

import array
import hashlib
import math
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from openrlhf_math.colocation.async_engine import ServingEngine, check_serving, engine_may_die, start_engine
from openrlhf_math.colocation.layout import cache_arguments
from openrlhf_math.concurrency import gather
from openrlhf_math.data.chat_template import prepared
from openrlhf_math.errors import BadValue, UserError
from openrlhf_math.patches.remote_code import remote_code_trusted
from openrlhf_math.rerank.aggregate import Scores
from openrlhf_math.rerank.scorers import ScorerKind, find_scorer
from openrlhf_math.rerank.steps import Encoded, split_steps

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class ScoreMemory:
    """The latest scores, by the tokens that lead to them.

    Where the engine has a prefix in its cache it computes nothing there, also no scores. When a search scores a longer
    beginning of the same solution, those of its earlier steps come from here.
    """

    def __init__(self, capacity: int = 1 << 16) -> None:
        self._scores: OrderedDict[bytes, float] = OrderedDict()
        self._capacity = capacity

    def get(self, keys: list[bytes]) -> list[float | None]:
        return [self._scores.get(key) for key in keys]

    def put(self, keys: list[bytes], scores: list[float]) -> None:
        self._scores.update(zip(keys, scores, strict=True))
        while len(self._scores) > self._capacity:
            self._scores.popitem(last=False)

    def clear(self) -> None:
        self._scores.clear()


def prefix_digests(encoded: Encoded) -> list[bytes]:
    """For every position that is read, a digest of the tokens up to it."""
    digest, found, begin = hashlib.blake2b(digest_size=16), [], 0
    for position in encoded.read:
        digest.update(array.array("q", encoded.ids[begin : position + 1]).tobytes())
        found.append(digest.digest())
        begin = position + 1
    return found


FLAG = "--scorer-model"

# Tokens an engine computes at once, if no completion needs more, and the longest completion it is made for unless the
# settings say otherwise: its activations must fit.
BATCHED_TOKENS = 8192
MOST_CONTEXT = 16384
LOG_PROB_TOKENS = 1024  # at once, where log-probabilities are read


@dataclass(frozen=True, slots=True)
class ScorerSettings:
    """How a scorer is run. Raises ValueError for values that cannot work.

    kind             a name of `scorers`, or the dotted path of a user's own
    model            directory or hub name
    device           "cpu" or "cuda"
    tensor_parallel  devices an engine is spread over
    max_context      tokens of problem and completion together; None for the model's own, at most 16,384
    replicas         engines, each an actor with its own devices
    separator        what separates steps; None for the kind's own
    max_concurrency  completions an engine computes together; more wait
    memory           share of a GPU's memory an engine takes
    engine_args      further arguments of vLLM's engine, which go before ours
    """

    kind: str
    model: str
    device: str
    tensor_parallel: int = 1
    max_context: int | None = None
    replicas: int = 1
    separator: str | None = None
    max_concurrency: int = 256
    memory: float = 0.3
    engine_args: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_serving(self)
        if self.separator == "":
            raise BadValue("separator", self.separator, "what separates steps")


class ScoringEngine(ServingEngine):
    """One engine, see `roles.Scorer`. Requests are batched as they come, without padding; what completions have in
    common, such as their problem, is computed once."""

    _flag = FLAG

    def __init__(self, settings: ScorerSettings) -> None:
        """Raises UserError if the model is of another kind, or vLLM cannot serve it."""
        self._kind, arguments = kind_and_arguments(settings)
        self._by_step = self._kind.separator is not None
        self._read_log_probs = of_log_probs(self._kind)
        self._split = getattr(self._kind, "split", lambda text: split_steps(text, self._kind.separator or ""))
        self._cuda = settings.device == "cuda"
        self._engine = start_engine(FLAG, settings.model, settings.device, **arguments | settings.engine_args)
        self._context = self._engine.model_config.max_model_len
        self._memory = ScoreMemory()

    async def score(self, problem: str, responses: Sequence[str]) -> list[Scores]:
        await self.ready()
        return await gather(self._score(problem, response) for response in responses)

    async def _score(self, problem: str, response: str) -> Scores:
        if not response.strip():
            return None
        steps = self._split(response) if self._by_step else [response]
        if not steps:
            return None
        encoded = self._kind.encode(problem, steps)
        if len(encoded.ids) + bool(self._read_log_probs) > self._context:  # vLLM adds a token to read log-probabilities
            return None
        scores = await self._scores(encoded)
        return scores if self._by_step else scores[0]

    async def _scores(self, encoded: Encoded) -> list[float]:
        """The scores at the positions that are read."""
        keys = prefix_digests(encoded)
        known = self._memory.get(keys)
        scores = [score for score in known if score is not None]
        if len(scores) < len(known):
            scores = await self._computed(encoded, known)
            self._memory.put(keys, scores)
        return scores

    async def _computed(self, encoded: Encoded, known: list[float | None]) -> list[float]:
        if self._read_log_probs:
            log_probs = await self._log_probs(encoded.ids)
            begins = (encoded.start, *(position + 1 for position in encoded.read))
            return self._read_log_probs(
                [log_probs[begin : end + 1] for begin, end in zip(begins, encoded.read, strict=False)]
            )
        first = next(position for position, score in zip(encoded.read, known, strict=True) if score is None)
        rows = await self._rows(encoded.ids, cached=True)
        if len(encoded.ids) - len(rows) > first:  # it was in the engine's cache, yet not in our memory
            rows = await self._rows(encoded.ids, cached=False)
        begin = len(encoded.ids) - len(rows)
        return [
            self._kind.read(rows[position - begin]) if score is None else score
            for position, score in zip(encoded.read, known, strict=True)
        ]

    async def _rows(self, ids: list[int], cached: bool) -> list[list[float]]:
        """Logits [tokens, labels] of the last tokens: of those that were not in the cache, of all if it is not read."""
        from vllm import PoolingParams, TokensPrompt

        parameters = PoolingParams(task="token_classify", use_activation=False, skip_reading_prefix_cache=not cached)
        with engine_may_die(FLAG):
            async for output in self._engine.encode(TokensPrompt(prompt_token_ids=ids), parameters, uuid.uuid4().hex):
                rows = output.outputs.data
        return rows.tolist()

    async def _log_probs(self, ids: list[int]) -> list[float]:
        """The log-probability of each token after those before it; NaN of the first."""
        from vllm import SamplingParams, TokensPrompt

        parameters = SamplingParams(max_tokens=1, prompt_logprobs=0, flat_logprobs=True, detokenize=False)
        with engine_may_die(FLAG):
            async for output in self._engine.generate(TokensPrompt(prompt_token_ids=ids), parameters, uuid.uuid4().hex):
                flat = output.prompt_logprobs
        return [math.nan, *(flat.logprobs[start] for start in flat.start_indices[1:])]


def of_log_probs(kind: ScorerKind) -> Callable[[Sequence[Sequence[float]]], list[float]] | None:
    """How a kind reads its scores from log-probabilities; None if it reads logits."""
    return getattr(kind, "read_log_probs", None)


def kind_and_arguments(settings: ScorerSettings) -> tuple[ScorerKind, dict[str, object]]:
    """A kind over its model's tokenizer, and the arguments of the engine. No weights are read.

    Raises UserError if the model is of another kind.
    """
    from jinja2 import TemplateError
    from transformers import AutoConfig, AutoTokenizer

    kind = find_scorer(settings.kind)
    try:
        config = AutoConfig.from_pretrained(settings.model, trust_remote_code=remote_code_trusted())
        tokenizer = AutoTokenizer.from_pretrained(settings.model, trust_remote_code=remote_code_trusted())
        made = kind(prepared(tokenizer), config)
        if settings.separator and made.separator:
            made.separator = settings.separator
        made.encode("1 + 1?", ["1 + 1 = 2", "2"])  # a chat template may refuse a role
        return made, _arguments(settings, made, config)
    except (OSError, ValueError, TemplateError) as error:
        raise UserError(f"{FLAG} {settings.model}: it cannot be a scorer of kind {settings.kind} ({error})") from error


def _arguments(settings: ScorerSettings, kind: ScorerKind, config: "PretrainedConfig") -> dict[str, object]:
    """Of vLLM's engine."""
    arguments = kind.engine_arguments()
    model_context = getattr(config.get_text_config(), "max_position_embeddings", None) or MOST_CONTEXT
    context = settings.max_context or min(model_context, MOST_CONTEXT)
    arguments |= {
        "enable_prefix_caching": True,
        "max_model_len": context,
        "max_num_seqs": settings.max_concurrency,
        "tensor_parallel_size": settings.tensor_parallel,
    }
    arguments |= _of_log_probs() if of_log_probs(kind) else _of_pooling(arguments.get("pooler_config", {}), context)
    if settings.device == "cpu":
        return arguments | cache_arguments(settings.device, settings.model, settings.max_concurrency, context)
    return arguments | {"gpu_memory_utilization": settings.memory, "enable_sleep_mode": True}


def _of_log_probs() -> dict[str, object]:
    # vLLM makes logits over the whole vocabulary for every token that it computes at once.
    return {"runner": "generate", "enable_chunked_prefill": True, "max_num_batched_tokens": LOG_PROB_TOKENS}


def _of_pooling(pooler: dict[str, Any], context: int) -> dict[str, object]:
    from vllm.config import PoolerConfig

    return {
        "runner": "pooling",
        # STEP pooling would look for the tags itself, and vLLM has no prefix caching with it. That of ALL gives the
        # logits of every token that is computed; which of them count is known here.
        "pooler_config": PoolerConfig(tok_pooling_type="ALL", **pooler),
        # A completion is computed in one piece: one of which a part was computed could be interrupted between, and
        # vLLM 0.29 would keep the logits of the part twice.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(context, BATCHED_TOKENS),
    }
