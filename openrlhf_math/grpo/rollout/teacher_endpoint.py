"""A teacher behind a vLLM server: compared with the student before a run, asked in each step."""

import asyncio
import json
from dataclasses import replace

import torch
from jaxtyping import Float32, Int64, Shaped
from openrlhf.trainer.ppo_utils.experience import Experience
from torch import Tensor

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.endpoint.reply import Failure
from openrlhf_math.endpoint.scoring import ScoringClient
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
        own, other = tokenizer.decode(ids), await client.text_of(name, ids)
        if own != other:
            reason = _first_difference(tokens, *(text.split(tokenizer.decode([between])) for text in (own, other)))
            raise UserError(f"{where}: {reason}; serve a teacher with the student's tokenizer")
        await client.log_probs(name, ids[:16])
    return replace(teacher, model=name)


def _first_difference(tokens: list[int], own: list[str], other: list[str]) -> str:
    """own, other: the texts of the tokens to the student and to the teacher."""
    for token, mine, its in zip(tokens, own, other, strict=False):
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
