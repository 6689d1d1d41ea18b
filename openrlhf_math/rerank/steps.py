"""Steps: a completion split into them, and how process reward models read them, in training and in scoring alike.

https://huggingface.co/Qwen/Qwen2.5-Math-PRM-7B, "Quick Start"; https://arxiv.org/abs/2501.07301

Scores are read at positions that are known from the writing, never by looking for a tag in the tokens: what a model
wrote into its completion can add no score and move none. Control tokens in it are made ordinary text besides, so that
it cannot end its own turn or begin another's.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.rewards.thinking import CLOSE, OPEN, in_think_tags

BLANK_LINE, LINE_END = "\n\n", "\n"
# Marks the place of a scorer's tag in a text: a character for private use, which `harmless` takes out of all others.
MARK = "\ue000"
REPLACEMENT = "\ufffd"
ZERO_WIDTH_SPACE = "\u200b"

_COMMON = re.compile(
    r"</?think>|<[|｜][^<>|｜]{1,40}[|｜]>|\[/?INST\]|<</?SYS>>|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_turn>|</start_of_turn>"
)
_THINK = re.compile(r"(</?think>)")


@dataclass(frozen=True, slots=True)
class Encoded:
    """ids: tokens, up to the last that is read. read: increasing positions in `ids` at which the scores are read.

    start: where the first step begins, for scores that are read from all of a step's tokens.
    """

    ids: list[int]
    read: list[int]
    start: int = 0

    def __post_init__(self) -> None:
        # Later tokens change nothing that a causal model says before them.
        object.__setattr__(self, "ids", self.ids[: self.read[-1] + 1])


def control_tokens(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The texts that a tokenizer takes for special tokens."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple({*added, *tokenizer.all_special_tokens})


def harmless(text: str, controls: Iterable[str]) -> str:
    """The text with an invisible space in every control token it spells, so that a tokenizer sees ordinary text.

    controls: texts of two or more characters. Lone surrogates, which no tokenizer takes, are replaced.
    """
    text = text.encode("utf-8", "replace").decode().replace(MARK, REPLACEMENT)
    spelled = "|".join(re.escape(control) for control in controls if len(control) > 1)
    return re.sub(f"(?=({spelled}))(.)", rf"\2{ZERO_WIDTH_SPACE}", text, flags=re.DOTALL) if spelled else text


def without_common_controls(text: str) -> str:
    """`harmless` for what chat templates of known families write around turns, where the tokenizer is not at hand."""
    return _COMMON.sub(lambda found: found[0][0] + ZERO_WIDTH_SPACE + found[0][1:], harmless(text, ()))


def encode_marked(
    tokenizer: Tokenizer, text: str, tag: str, before: bool = False, add_special_tokens: bool = False
) -> Encoded:
    """Tokens of a text with `tag` in place of every MARK, tokenized as one.

    The scores are read at the last token of each tag, or with `before` at the token that predicts it.
    """
    tagged, ends = "", []
    first, *others = text.split(MARK)
    tagged = first
    for piece in others:
        ends.append(len(tagged) + len(tag))
        tagged += tag + piece
    tokens = tokenizer(tagged, add_special_tokens=add_special_tokens, return_offsets_mapping=True, verbose=False)
    starts = _starts(tokens["offset_mapping"])
    if before:
        read = [bisect_right(starts, end - len(tag)) - 2 for end in ends]
    else:
        read = [bisect_right(starts, end - 1) - 1 for end in ends]
    return Encoded(tokens["input_ids"], read)


def encode_continuation(tokenizer: Tokenizer, prompt: str, steps: Sequence[str]) -> Encoded:
    """Tokens of a prompt, then of the steps, tokenized together; each step is read at the last token that begins in it.

    steps: at least one. A step in which no token begins, as it is part of the one before, is read where that one is.
    """
    ids = tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]
    tokens = tokenizer("".join(steps), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    starts, begin = _starts(tokens["offset_mapping"]), len(ids)
    ends = accumulate(map(len, steps))
    read = [begin + max(bisect_left(starts, end) - 1, 0) for end in ends]
    return Encoded(ids + tokens["input_ids"], read, begin)


def _starts(offsets: list[tuple[int, int]]) -> list[int]:
    """Where each token begins, in characters. A token added by the tokenizer has the empty offset (0, 0)."""
    starts, last = [], 0
    for start, end in offsets:
        last = start if end > start else last
        starts.append(last)
    return starts


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
