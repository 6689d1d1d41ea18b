"""Chats into the tokens of prompts: off the event loop, once for all attempts at a problem, and none that is huge."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping

from openrlhf_math.rerank.roles import Messages, RequestError
from openrlhf_math.side_by_side import aside

# Text has some 4 characters a token. What has so many more than the context has tokens is refused unread: to count the
# tokens of megabytes takes seconds.
CHARACTERS_A_TOKEN = 16
REMEMBERED = 256


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
            made = self._made[key] = asyncio.ensure_future(aside(self._tokenize, messages, prefix, variables or {}))
        self._made.move_to_end(key)
        while len(self._made) > REMEMBERED:
            self._made.popitem(last=False)
        return await asyncio.shield(made)
