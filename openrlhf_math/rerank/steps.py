"""Steps: a completion split into them, and how process reward models read them, in training and in scoring alike.

https://huggingface.co/Qwen/Qwen2.5-Math-PRM-7B, "Quick Start"; https://arxiv.org/abs/2501.07301
"""

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.rerank.encoding import MARK, Encoded, control_tokens, encode_marked, harmless
from openrlhf_math.rewards.thinking import CLOSE, OPEN, in_think_tags

BLANK_LINE, LINE_END = "\n\n", "\n"

_THINK = re.compile(r"(</?think>)")


def split_steps(response: str, separator: str = BLANK_LINE) -> list[str]:
    """The steps of a completion, or of the beginning of one, without the space around them; empty ones are dropped.

    separator: what separates steps. Where it is a blank line and the completion has none, every line is a step.

    The thinking part is judged like the rest: `<think>` and `</think>` only end a step, and are not part of one.
    """
    return [step for piece, _ in _pieces(response, separator) if (step := piece.strip())]


def split_unchanged(response: str, separator: str = BLANK_LINE) -> list[str]:
    """The same steps with all that is around them: joined, they are the completion, with its thinking part in `<think>`
    tags and line feeds for line ends."""
    steps, before = [], ""
    for piece, mark in _pieces(response, separator):
        if piece.strip():
            ends = mark not in ("", OPEN, CLOSE)
            steps.append(before + piece + (mark if ends else ""))
            before = "" if ends else mark
        else:
            before += piece + mark
    if steps:
        steps[-1] += before
    return steps


def _pieces(response: str, separator: str) -> Iterator[tuple[str, str]]:
    """The text between marks, each piece with the mark that ends it: the separator, `<think>` or `</think>`, or ""."""
    text = in_think_tags(response).replace("\r\n", "\n")
    if separator == BLANK_LINE and BLANK_LINE not in text:
        separator = "\n"
    parts = _THINK.split(text)
    for part, tag in zip_longest(parts[::2], parts[1::2], fillvalue=""):
        *pieces, last = part.split(separator)
        yield from ((piece, separator) for piece in pieces)
        yield last, tag


SYSTEM_PROMPT = r"Please reason step by step, and put your final answer within \boxed{}."
STEP_TAG = "<extra_0>"


def encode_prm(tokenizer: Tokenizer, problem: str, steps: Sequence[str]) -> Encoded:
    """A chat of system prompt, problem and solution, with STEP_TAG behind every step; scores are read at the tags.

    tokenizer: with a chat template, and STEP_TAG as a single token. steps: at least one, see `split_steps`.
    """
    controls = (*control_tokens(tokenizer), STEP_TAG)
    messages = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": harmless(problem, controls)},
        {"role": "assistant", "content": MARK},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    solution = "".join(harmless(step, controls) + MARK for step in steps)
    return encode_marked(tokenizer, text.replace(MARK, solution), STEP_TAG)


def encode_trl(tokenizer: Tokenizer, problem: str, steps: Sequence[str], separator: str = LINE_END) -> Encoded:
    """As TRL's PRMTrainer tokenizes: the problem as it is, behind the first token if the tokenizer has one, then every
    step and the separator, each tokenized alone; scores are read at the last token of each separator.

    https://huggingface.co/docs/trl/prm_trainer. steps: at least one, see `split_steps`. separator: not empty.
    """
    controls = control_tokens(tokenizer)

    def ids_of(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    first, end, read = tokenizer.bos_token_id, ids_of(separator), []
    ids = ([] if first is None else [first]) + ids_of(harmless(problem, controls))
    for step in steps:
        ids += ids_of(harmless(step, controls)) + end
        read.append(len(ids) - 1)
    return Encoded(ids, read)
