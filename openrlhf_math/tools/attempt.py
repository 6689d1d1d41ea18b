"""An attempt in which the model calls the tool: its words and the output of its programs, one sequence of tokens.

What the model wrote is never tokenized again. What a program printed is tokenized once and put behind it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from openrlhf_math.concurrency import within
from openrlhf_math.data.prompts import Continued, Tokenizer
from openrlhf_math.seeds import derived_seed
from openrlhf_math.tools.code_blocks import Call
from openrlhf_math.tools.isolation import PLAIN, ToolFlags, find_isolation
from openrlhf_math.tools.pool import KernelPool, Session, places_for, running_for
from openrlhf_math.tools.settings import ToolSettings
from openrlhf_math.tools.turns import find_turns

if TYPE_CHECKING:
    from vllm import CompletionOutput

# Texts that end as a call does and are none, such as fences of blocks in other languages. An attempt that has written
# so many of them continues without the tool: each one costs a request to the engine.
MOST_FALSE_STOPS = 64
LAST_CALL = "[this was the last call of the tool]"
NOT_SHOWN = "[the output cannot be shown]"


@dataclass(frozen=True, slots=True)
class Piece:
    """What an engine made of one request.

    ids       its tokens, with the one that ended it
    text      of these tokens; that of a token which ended it is left out
    finished  "eos": the model ended its turn; "stop": at one of the stop texts, which is in the text; "length": the
              limit cut it off; other words where it did not come to an end
    stopped   the stop text
    """

    ids: Sequence[int]
    text: str
    finished: str
    stopped: str | None = None


def piece_of(completion: "CompletionOutput") -> Piece:
    """completion: vLLM's, of a request that keeps stop texts in the text."""
    stopped = completion.stop_reason if isinstance(completion.stop_reason, str) else None
    finished = completion.finish_reason or ""
    if finished == "stop" and stopped is None:
        finished = "eos"
    return Piece(list(completion.token_ids), completion.text, finished, stopped)


# (tokens of the prompt, most tokens, stop texts, number of the request in its attempt) to what follows.
Generate = Callable[[list[int], int, tuple[str, ...], int], Awaitable[Piece]]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """calls: that were made. failed: of these, ended by an exception, a limit or because they could not be read.
    seconds: that the model waited for them. tokens: of their output in the context."""

    calls: int = 0
    failed: int = 0
    seconds: float = 0.0
    tokens: int = 0

    def __add__(self, other: "ToolUse") -> "ToolUse":
        mine, others = astuple(self), astuple(other)
        return ToolUse(*(one + more for one, more in zip(mine, others, strict=True)))

    def as_row(self) -> dict[str, float]:
        """For records."""
        return {"tool_calls": self.calls, "tool_failed": self.failed, "tool_seconds": round(self.seconds, 3)}


class Tool:
    """The tool of one engine: how calls are read and answered, and the kernels that run them."""

    def __init__(self, settings: ToolSettings, tokenizer: Tokenizer, model: str, flags: ToolFlags = PLAIN) -> None:
        """model, flags: its name and the command's flags, for messages.

        Raises UserError where this machine gives no isolation, or the model's tokenizer or chat template cannot do it.
        """
        self.settings = settings
        self.turns = find_turns(settings.form, tokenizer, settings.output, model, flags)
        self._continued = Continued(flags.model, model, tokenizer)
        self._special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        isolation = find_isolation(settings.isolation, flags)
        self.pool = KernelPool(settings.limits(), isolation, places_for(settings.memory_mb), running_for())

    def reply(self, call: Call, output: str, template: Mapping[str, object]) -> tuple[str, list[int]]:
        """What follows a call, and its tokens. The output adds no control token to those of the form itself.

        A tokenizer's normalizer may make a control token of other characters; then the output is written in ASCII.
        template: variables of the chat template.
        """
        _, bare = self._written(call, "7", template)
        wanted = self._control(bare)
        for shown in (output, output.encode("ascii", "backslashreplace").decode(), NOT_SHOWN):
            text, ids = self._written(call, shown, template)
            if self._control(ids) == wanted:
                break
        return text, ids

    def _written(self, call: Call, output: str, template: Mapping[str, object]) -> tuple[str, list[int]]:
        text = self.turns.response(call, output, template)
        (ids,) = self._continued.ids([text])
        return text, ids

    def _control(self, ids: list[int]) -> Counter[int]:
        return Counter(token for token in ids if token in self._special)


class ToolAttempt:
    """One attempt. What it has so far can be read at any time, also after it was cancelled.

    text: the whole transcript, output included. tokens: that the model wrote. finished: as `Piece.finished`, "length"
    also where the output left no room for another token.
    """

    def __init__(self, tool: Tool, template: Mapping[str, object] | None = None) -> None:
        """template: variables of the chat template."""
        self._template = template or {}
        self.tokens, self.finished, self.use = 0, "", ToolUse()
        self._tool = tool
        self._parts: list[str] = []
        self._cut = asyncio.Event()

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def cut(self) -> None:
        """End it: nothing more is generated or run."""
        self._cut.set()

    async def write(self, generate: Generate, prompt: list[int], most: int, stop: tuple[str, ...] = ()) -> None:
        """most: tokens of model and tool together. stop: texts that end the attempt."""
        async with self._tool.pool.session() as session:
            self.finished = await self._write(generate, session, list(prompt), len(prompt) + most, stop)

    async def _write(
        self, generate: Generate, session: Session, ids: list[int], end: int, stop: tuple[str, ...]
    ) -> str:
        """end: length of the context at which the attempt ends. Returns why it ended."""
        turns, most_calls = self._tool.turns, self._tool.settings.calls
        reader, number, false_stops = turns.reader(), 0, 0
        while not self._cut.is_set():
            looking = self.use.calls < most_calls and false_stops < MOST_FALSE_STOPS
            piece = await generate(ids, end - len(ids), (*stop, *turns.stops) if looking else stop, number)
            number += 1
            ids += piece.ids
            self.tokens += len(piece.ids)
            self._parts.append(piece.text)
            if not looking or piece.finished not in ("eos", "stop") or piece.stopped in stop:
                return piece.finished
            call = reader.add(piece.text)
            if call is None:
                if piece.finished == "eos":
                    return "eos"
                false_stops += 1
            else:
                if piece.finished == "eos" and piece.ids:
                    ids.pop()  # the turn continues, or the chat template ends it
                if not await self._answer(session, call, ids, end):
                    break
                reader = turns.reader()
            if len(ids) >= end:
                return "length"
        return "abort" if self._cut.is_set() else "length"

    async def _answer(self, session: Session, call: Call, ids: list[int], end: int) -> bool:
        """Run a call and put its output behind `ids`. False if that leaves no room for a token, or it was cut."""
        begun, status, output = time.monotonic(), "error", ""
        if call.code is not None:
            try:
                result = await within(float("inf"), session.run(call.code), unless=self._cut)
            except TimeoutError:
                return False
            status, output = result.status, result.output
        use = self.use
        if use.calls + 1 == self._tool.settings.calls:
            output = f"{output}\n{LAST_CALL}".lstrip("\n")
        text, new = self._tool.reply(call, output, self._template)
        fits = len(ids) + len(new) < end
        self.use = ToolUse(
            calls=use.calls + 1,
            failed=use.failed + (status != "ok"),
            seconds=use.seconds + time.monotonic() - begun,
            tokens=use.tokens + len(new) * fits,
        )
        if fits:
            self._parts.append(text)
            ids += new
        return fits


def seed_of_request(seed: int | None, number: int) -> int | None:
    """Of a request of an attempt with this seed, 31 bits: each draws otherwise than the one before it."""
    if seed is None or number == 0:
        return seed
    return derived_seed(f"{seed} {number}")
