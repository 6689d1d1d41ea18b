"""The tokens of prompts and the text of completions: chats into tokens, and tokens into text with thinking marks.

vLLM removes special tokens from its text. Where they mark the thinking part (gpt-oss, Magistral, Command A), that would
hide the end of the thinking, and a draft in it would count as the answer.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from openrlhf_math.concurrency import in_thread
from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.rerank.roles import Messages, RequestError
from openrlhf_math.rewards.thinking import TOKENS, begins_thinking
from openrlhf_math.tools.attempt import Piece, piece_of

if TYPE_CHECKING:
    from vllm import CompletionOutput

# Text has some 4 characters a token. What has so many more than the context has tokens is refused unread: to count the
# tokens of megabytes takes seconds.
CHARACTERS_A_TOKEN = 16
REMEMBERED = 256
MARK_TOKENS = 64  # more than an opening mark has in any tokenizer, with the space after it


def check_size(messages: Messages, context: int, prefix: str = "") -> None:
    """Raises RequestError for a chat of more than CHARACTERS_A_TOKEN characters for each token of the context."""
    characters = sum(len(text) for one in messages for name, text in one.items() if name != "role") + len(prefix)
    if characters > CHARACTERS_A_TOKEN * context:
        raise RequestError(
            f"the problem has {characters:,} characters with its prompt, the model's context is {context:,} tokens: at "
            f"most {CHARACTERS_A_TOKEN * context:,} characters are read"
        )


class Prompts:
    """The tokens of the latest prompts. Attempts at one problem that come together wait for the same work."""

    def __init__(self, tokenize: Callable[[Messages, str, Mapping], list[int]], context: int) -> None:
        """tokenize: of a chat, the beginning of the answer and the chat template's variables. It may take long, and
        runs in a thread."""
        self._tokenize, self._context = tokenize, context
        self._made: OrderedDict[str, asyncio.Future] = OrderedDict()

    async def ids(self, messages: Messages, prefix: str = "", variables: Mapping | None = None) -> list[int]:
        """Raises RequestError for a chat that is too long to be read, and what `tokenize` raises."""
        check_size(messages, self._context, prefix)
        key = json.dumps([list(messages), prefix, variables])
        made = self._made.get(key)
        if made is None or made.done() and (made.cancelled() or made.exception()):
            made = self._made[key] = asyncio.ensure_future(in_thread(self._tokenize, messages, prefix, variables or {}))
        self._made.move_to_end(key)
        while len(self._made) > REMEMBERED:
            self._made.popitem(last=False)
        return await asyncio.shield(made)


class EngineText:
    """The text of prompts and completions that an engine has as tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        self._tokenizer, self._kept = tokenizer, not special.isdisjoint(TOKENS)

    def arguments(self) -> dict[str, Any]:
        """Of vLLM's SamplingParams."""
        return {"skip_special_tokens": False} if self._kept else {}

    def decoded(self, ids: Sequence[int]) -> str:
        """The text of the first tokens of a completion."""
        return self._tokenizer.decode(ids, skip_special_tokens=not self._kept)

    def opens_thinking(self, ids: Sequence[int]) -> bool:
        """Whether a prompt of these tokens has opened the thinking part of what follows."""
        return begins_thinking(self._tokenizer.decode(ids[-MARK_TOKENS:]))

    def piece(self, completion: "CompletionOutput") -> Piece:
        """`piece_of` a completion, without the text of the token that ended it."""
        return replace(piece_of(completion), text=self.without_end(completion.text, completion))

    def without_end(self, text: str, completion: "CompletionOutput") -> str:
        """The text without that of the token that ended the completion, which is in it where stop texts are kept."""
        ids: Sequence[int] = completion.token_ids
        if not self._kept or completion.finish_reason != "stop" or isinstance(completion.stop_reason, str) or not ids:
            return text
        return text.removesuffix(self._tokenizer.decode([ids[-1]]))
