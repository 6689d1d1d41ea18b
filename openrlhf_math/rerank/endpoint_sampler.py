"""The sampler behind an OpenAI-compatible endpoint: no engine, no device, no Ray."""

import asyncio
import json
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from openrlhf_math.data.trace import trace
from openrlhf_math.endpoint.client import Client
from openrlhf_math.endpoint.reply import Answer, Failure
from openrlhf_math.endpoint.settings import EndpointSettings
from openrlhf_math.errors import UserError
from openrlhf_math.rerank.confidence import Confidence, Watch, meter_of
from openrlhf_math.rerank.roles import (
    Completion,
    CutOff,
    Lost,
    Messages,
    RequestError,
    Sampling,
    Unavailable,
    Unmeasured,
)
from openrlhf_math.rewards.thinking import CLOSE
from openrlhf_math.rewards.tool_output import OUTPUT_BEGINS
from openrlhf_math.tools.attempt import LAST_CALL, ToolUse, seed_of_request
from openrlhf_math.tools.code_blocks import Call, Reader
from openrlhf_math.tools.isolation import find_isolation
from openrlhf_math.tools.pool import KernelPool, places_for, running_for
from openrlhf_math.tools.settings import ToolSettings
from openrlhf_math.tools.turns import BlockTurns

CHARACTERS_A_TOKEN = 4
REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class EndpointModel:
    """A model behind an endpoint.

    model       its name there
    endpoint    where it is, and how it is asked
    max_tokens  expected of a completion, until replies say what they take
    tool        that it may call, see `endpoint_tool`; None for none
    """

    model: str
    endpoint: EndpointSettings
    max_tokens: int = 2048
    tool: ToolSettings | None = None


def body_of(model: str, messages: Messages, sampling: Sampling) -> dict:
    """Of a request for one completion. Fields that ask for nothing are left out: not every endpoint knows them all."""
    body = {
        "model": model,
        "messages": list(messages),
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
    }
    unless = {
        "stop": list(sampling.stop),
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "repetition_penalty": sampling.repetition_penalty if sampling.repetition_penalty != 1 else 0,
        "chat_template_kwargs": sampling.chat_template_kwargs,
        "reasoning_effort": sampling.reasoning_effort,
        "logprobs": sampling.watch is not None,
        "top_logprobs": sampling.watch.candidates if sampling.watch else 0,
    }
    return body | {name: value for name, value in unless.items() if value} | sampling.more


class EndpointSampler:
    """See `roles.Sampler`. All calls come from one event loop; `close` in the same."""

    def __init__(self, settings: EndpointModel) -> None:
        self._settings = settings
        self._where = f"{settings.endpoint.flags.base_url} {settings.endpoint.base_url}"
        self._client: Client | None = None
        self._free = asyncio.Semaphore(settings.endpoint.concurrency)
        self._hopeless = ""
        self._counts_missing = False
        self._prompts: OrderedDict[str, int] = OrderedDict()

    @property
    def failed_tries(self) -> dict[str, int]:
        """Tries that failed, by kind."""
        return dict(self._client.failed_tries) if self._client else {}

    async def complete(self, messages: Messages, sampling: Sampling) -> Completion:
        """Raises RequestError if the endpoint refuses the request, Lost if it gives no reply after all tries,
        Unavailable if it never answers, and Unmeasured if it does not give the model's confidence."""
        if sampling.prefix:
            raise RequestError("an endpoint cannot continue a text that was begun; choose --strategy independent")
        async with self._free:
            client = await self._opened()
            try:
                answer = await client.ask(body_of(self._settings.model, messages, sampling))
            except Failure as failure:
                message = f"{self._where}: {failure}"
                if failure.setup:
                    self._hopeless = message
                    raise Unavailable(message) from None
                raise (RequestError if failure.final else Lost)(message) from None
            except UserError as error:
                self._hopeless = str(error)
                raise Unavailable(self._hopeless) from None
        self._hopeless = ""
        self._note_prompt(messages, answer)
        completion = self._completion(answer)
        return (
            replace(completion, confidence=self._confidence(answer, sampling.watch)) if sampling.watch else completion
        )

    async def check(self) -> None:
        """Raises Unavailable if the endpoint was given up, and has answered nothing since."""
        if self._hopeless:
            raise Unavailable(self._hopeless)

    async def close(self) -> None:
        if self._client:
            await self._client.__aexit__(None, None, None)
            self._client = None

    def prompt_tokens(self, messages: Messages) -> int:
        """Tokens of a chat that was answered, as the endpoint counts them; 0 if it did not say."""
        return self._prompts.get(_name(messages), 0)

    async def _opened(self) -> Client:
        if self._client is None:
            client = Client(self._settings.endpoint, self._settings.max_tokens)
            self._client = await client.__aenter__()
        return self._client

    def _completion(self, answer: Answer) -> Completion:
        text = trace(answer.content, answer.reasoning)
        # A filter cuts a reply off as the limit does: what came is not the whole of it.
        finished = "length" if answer.finish_reason in ("length", "content_filter") else "eos"
        if answer.stop_reason and finished == "eos":
            text, finished = text + answer.stop_reason, "stop"
        tokens = answer.tokens
        if tokens is None:
            if not self._counts_missing:
                logging.warning(
                    "the endpoint gives no usage: tokens are estimated, one for %s characters", CHARACTERS_A_TOKEN
                )
            self._counts_missing = True
            tokens = -(-len(text) // CHARACTERS_A_TOKEN)
        return Completion(text, tokens, finished)

    def _confidence(self, answer: Answer, watch: Watch) -> Confidence | None:
        """None for an empty reply. Raises Unmeasured where an endpoint does not give what was asked for."""
        found = meter_of(answer.logprobs, watch).confidence()
        if found is None and (answer.content or answer.reasoning):
            raise Unmeasured(
                f"{self._where}: its replies have no logprobs with top_logprobs, of which the confidence in an attempt "
                "is made; choose another endpoint, or leave out --rule confident, --keep-confident and "
                "--record-confidence"
            )
        return found

    def _note_prompt(self, messages: Messages, answer: Answer) -> None:
        self._prompts[_name(messages)] = answer.prompt_tokens or 0
        while len(self._prompts) > REMEMBERED:
            self._prompts.popitem(last=False)


def _name(messages: Messages) -> str:
    return json.dumps(list(messages))


class EndpointToolSampler:
    """See `roles.Sampler`. The programs run in this process's machine.

    What a model writes behind its first block of code is dropped: it wrote it without the output. It counts as tokens,
    which are all that the endpoint reports. `max_tokens` is for these; outputs are bounded by the number of calls and
    the characters of each.
    """

    def __init__(self, sampler: EndpointSampler, settings: ToolSettings) -> None:
        """Raises UserError where this machine gives no isolation."""
        self.sampler, self._settings = sampler, settings
        self._turns = BlockTurns(settings.output)
        isolation = find_isolation(settings.isolation)
        self._pool = KernelPool(settings.limits(), isolation, places_for(settings.memory_mb), running_for())
        self.check, self.close, self.prompt_tokens = sampler.check, sampler.close, sampler.prompt_tokens

    async def complete(self, messages: Messages, sampling: Sampling) -> Completion:
        """Raises what the endpoint's sampler raises. An attempt whose further request is refused, as its conversation
        fills the context, ends there."""
        conversation, parts, tokens, use = list(messages), [], 0, ToolUse()
        async with self._pool.session() as session:
            for number in range(self._settings.calls + 1):
                last = number == self._settings.calls
                asked = replace(
                    sampling,
                    max_tokens=sampling.max_tokens - tokens,
                    stop=sampling.stop if last else (*sampling.stop, OUTPUT_BEGINS),
                    seed=seed_of_request(sampling.seed, number),
                    watch=None,  # the confidence of what is dropped is not needed
                )
                try:
                    made = await self.sampler.complete(conversation, asked)
                except asyncio.CancelledError:
                    raise CutOff(tokens, at_least=True) from None
                except Lost as lost:
                    lost.tokens = tokens
                    raise
                except RequestError:
                    if number == 0:
                        raise
                    break
                tokens += made.tokens
                call, written = (None, made.text) if last else first_call(made.text)
                parts.append(written)
                if call is None:
                    return Completion("".join(parts), tokens, made.finished, use)
                begun = time.monotonic()
                try:
                    result = await session.run(call.code or "")
                except asyncio.CancelledError:
                    raise CutOff(tokens) from None
                more = f"\n{LAST_CALL}" if number + 1 == self._settings.calls else ""
                answer = self._turns.response(call, (result.output + more).lstrip("\n")).lstrip("\n")
                use += ToolUse(1, int(result.status != "ok"), time.monotonic() - begun, 0)
                parts.append(answer if written.endswith("\n") else f"\n{answer}")
                conversation += [
                    {"role": "assistant", "content": written.rpartition(CLOSE)[2].strip()},
                    {"role": "user", "content": answer.strip()},
                ]
                if tokens >= sampling.max_tokens:
                    break
        return Completion("".join(parts), tokens, "length", use)


def first_call(text: str) -> tuple[Call | None, str]:
    """The first block of code behind the thinking part, and the text up to its end; without one None and the text."""
    thinking, closed, rest = text.rpartition(CLOSE)
    reader, read = Reader("block"), len(thinking + closed)
    for line in rest.splitlines(keepends=True):
        read += len(line)
        if call := reader.add(line):
            return call, text[:read]
    return None, text


# Where `usage` is missing, English and mathematics have some four characters a token.
