"""The tokens that a scorer reads, and the positions at which its scores are read.

Scores are read at positions that are known from the writing, never by looking for a tag in the tokens: what a model
wrote into its completion can add no score and move none. Control tokens in it are made ordinary text besides, so that
it cannot end its own turn or begin another's.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from openrlhf_math.data.prompts import Tokenizer

# Marks the place of a scorer's tag in a text: a character for private use, which `harmless` takes out of all others.
MARK = "\ue000"
REPLACEMENT = "\ufffd"
ZERO_WIDTH_SPACE = "\u200b"

_COMMON = re.compile(
    r"</?think>|<[|｜][^<>|｜]{1,40}[|｜]>|\[/?INST\]|<</?SYS>>|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_turn>|</start_of_turn>"
)


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
