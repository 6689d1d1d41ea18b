"""A teacher behind a vLLM server: compared with the student before a run, asked in each step.

The server scores the student's tokens: it returns the log-probabilities of a given sequence.
"""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Float32, Int64, Shaped
from openrlhf.trainer.ppo_utils.experience import Experience
from torch import Tensor
from yarl import URL

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.endpoint.client import Client
from openrlhf_math.endpoint.reply import UNLIKELIEST, Failure, nonsense, plain, tokens_of
from openrlhf_math.endpoint.settings import EndpointSettings
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.rollout.teacher import FLAG, Teacher, endpoint_of


def served(teacher: Teacher, tokenizer: Tokenizer, max_len: int) -> Teacher:
    """The teacher with the name under which the server has it. tokenizer: the student's. max_len: of a sequence.

    Raises UserError unless the server has it, with the student's vocabulary, room for a sequence and `prompt_logprobs`.
    """
    try:
        return asyncio.run(_served(teacher, tokenizer, max_len))
    except Failure as failure:
        raise UserError(f"{FLAG} {teacher.url}: {failure}") from None


async def _served(teacher: Teacher, tokenizer: Tokenizer, max_len: int) -> Teacher:
    where = f"{FLAG} {teacher.url}"
    async with ScoringClient(endpoint_of(teacher), FLAG) as client:
        models = await client.models()
        name = teacher.model or (next(iter(models)) if len(models) == 1 else "")
        if name not in models:
            raise UserError(f"{where}: it serves {', '.join(models) or 'nothing'}; name one with --math.teacher_model")
        room = models[name]
        if room is not None and room <= max_len:
            raise UserError(
                f"{where}: its context has {room} tokens, and --data.max_len {max_len} needs one more than that; serve "
                f"the teacher with --max-model-len {max_len + 1}, or lower --data.max_len"
            )
        between = tokenizer.eos_token_id or 0
        tokens = sorted({*tokenizer.get_vocab().values()} - {between})
        ids = [number for token in tokens for number in (token, between)]
        ours, theirs = tokenizer.decode(ids), await client.text_of(name, ids)
        if ours != theirs:
            reason = _first_difference(tokens, *(text.split(tokenizer.decode([between])) for text in (ours, theirs)))
            raise UserError(f"{where}: {reason}; serve a teacher with the student's tokenizer")
        await client.log_probs(name, ids[:16])
    return replace(teacher, model=name)


def _first_difference(tokens: list[int], ours: list[str], theirs: list[str]) -> str:
    """ours, theirs: the texts of the tokens to the student and to the teacher."""
    for token, mine, its in zip(tokens, ours, theirs, strict=False):
        if mine != its:
            its, mine = (json.dumps(text[:40], ensure_ascii=False) for text in (its, mine))
            return f"its vocabulary is not the student's: token {token} is {its} to it and {mine} to the student"
    return "its vocabulary has not all tokens of the student's"


def log_probs_of(teacher: Teacher, samples_list: list[Experience]) -> list[Float32[Tensor, "_ _"]]:
    """The teacher's log-probabilities of the action tokens of each batch, [batch, actions], 0 elsewhere.

    Raises RuntimeError with a sentence if the server does not answer; the run can then resume.
    """
    try:
        return asyncio.run(_log_probs_of(teacher, samples_list))
    except Failure as failure:
        raise RuntimeError(f"{FLAG} {teacher.url}: {failure}") from None
    except UserError as error:
        raise RuntimeError(str(error)) from None


async def _log_probs_of(teacher: Teacher, samples_list: list[Experience]) -> list[Float32[Tensor, "_ _"]]:
    tables = [torch.zeros(samples.action_mask.shape) for samples in samples_list]
    async with ScoringClient(endpoint_of(teacher), FLAG) as client:
        free = asyncio.Semaphore(client.workers)

        async def fill(
            row: Float32[Tensor, " actions"],
            sequence: Int64[Tensor, " tokens"],
            shown: Shaped[Tensor, " tokens"],
            actions: Shaped[Tensor, " actions"],
        ) -> None:
            async with free:
                found = await client.log_probs(teacher.model, sequence[shown.bool()].tolist())
            places = shown.nonzero()[1:, 0] - 1  # of a token among the actions
            row[places] = torch.tensor(found) * actions[places]

        await asyncio.gather(
            *(
                fill(*row)
                for table, samples in zip(tables, samples_list, strict=True)
                for row in zip(table, samples.sequences, samples.attention_mask, samples.action_mask, strict=True)
                if row[-1].any()
            )
        )
    return tables


T = TypeVar("T")

BYTES_A_TOKEN = 1024  # of a reply: an id, a log-probability, a rank, and a text that may be a line of blanks
BYTES_AROUND = 1 << 20
ABOVE = 1e-3  # nats above 0 that a rounded log-probability may have


class ScoringClient(Client):
    """Asks a vLLM server for `prompt_logprobs`, with the retries and limits of `Client`.

    settings: base_url up to and with /v1. flag: that names the server in messages.
    """

    def __init__(self, settings: EndpointSettings, flag: str) -> None:
        super().__init__(settings, max_tokens=1)
        self.flag = flag
        self._base = URL(settings.base_url.rstrip("/"))

    async def models(self) -> dict[str, int | None]:
        """The names under which the server has models, each with the tokens of its context, None if it does not say.

        Raises UserError if the server cannot be asked.
        """

        def read(text: str) -> tuple[dict, int]:
            try:
                found = {str(one["id"]): tokens_of(one.get("max_model_len")) for one in json.loads(text)["data"]}
            except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
                raise nonsense(text) from None
            return found, 0

        return await self._once(self._base / "models", None, read, BYTES_AROUND)

    async def text_of(self, model: str, ids: Sequence[int]) -> str:
        """The text of tokens, by the server's own tokenizer. Raises UserError as above."""

        def read(text: str) -> tuple[str, int]:
            try:
                found = json.loads(text)["prompt"]
            except (ValueError, RecursionError, KeyError, TypeError):
                raise nonsense(text) from None
            return found, 0

        root = self._base.parent if self._base.name == "v1" else self._base
        longest = BYTES_AROUND + BYTES_A_TOKEN * len(ids)
        return await self._once(root / "detokenize", {"model": model, "tokens": list(ids)}, read, longest)

    async def log_probs(self, model: str, ids: Sequence[int]) -> list[float]:
        """log p of each token but the first, given those before it, at temperature 1.

        Raises Failure after the last try, UserError if no request can be answered.
        """
        body = {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        body = {name: value for name, value in (body | self._http.extra_body).items() if value is not None}
        longest = BYTES_AROUND + BYTES_A_TOKEN * len(ids)
        return await self.fetch(self._base / "completions", body, lambda text: (read_log_probs(text, ids), 0), longest)

    async def _once(self, url: URL, body: dict | None, read: Callable[[str], tuple[T, int]], longest: int) -> T:
        try:
            return await self.fetch(url, body, read, longest)
        except Failure as failure:
            raise UserError(f"{self.flag} {self._base}: {url.path}: {failure}") from None


def read_log_probs(text: str, ids: Sequence[int]) -> list[float]:
    """Of a reply of `/v1/completions` with `prompt_logprobs`. ids: those sent. Raises FailedTry for another body."""
    try:
        rows = json.loads(text)["choices"][0].get("prompt_logprobs")
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        raise nonsense(text) from None
    if rows is None:
        raise nonsense("no prompt_logprobs in it; serve the teacher with `vllm serve`")
    try:
        found = [float(row[str(token)]["logprob"]) for row, token in zip(rows[1:], ids[1:], strict=True)]
    except (KeyError, TypeError, ValueError):
        raise nonsense(f"prompt_logprobs of other tokens than were sent: {plain(json.dumps(rows[:3]))}") from None
    bad = next((value for value in found if not UNLIKELIEST < value <= ABOVE or math.isnan(value)), None)
    if bad is not None:
        raise nonsense(f"{bad:g} as the logarithm of a probability")
    return found
