"""The sampler behind an OpenAI-compatible endpoint: no engine, no device, no Ray."""

import asyncio
import json
import logging
from collections import OrderedDict
from dataclasses import dataclass, field

from openrlhf_math.data.trace import trace
from openrlhf_math.endpoint.client import Client
from openrlhf_math.endpoint.reply import Answer, Failure
from openrlhf_math.endpoint.settings import EndpointSettings, renamed
from openrlhf_math.errors import UserError
from openrlhf_math.rerank.roles import Completion, Lost, Messages, RequestError, Sampling, Unavailable
from openrlhf_math.tools.settings import ToolSettings

# Where `usage` is missing, English and mathematics have some four characters a token.
CHARACTERS_A_TOKEN = 4
REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class EndpointModel:
    """A model behind an endpoint.

    model       its name there
    endpoint    where it is, and how it is asked
    max_tokens  expected of a completion, until replies say what they take
    tool        that it may call, see `endpoint_tool`; None for none
    flags       names of the flags in what the endpoint's errors say, where they are others than `distill`'s
    """

    model: str
    endpoint: EndpointSettings
    max_tokens: int = 2048
    flags: dict[str, str] = field(default_factory=dict)
    tool: ToolSettings | None = None


class EndpointSampler:
    """See `roles.Sampler`. All calls come from one event loop; `close` in the same."""

    def __init__(self, settings: EndpointModel) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._free = asyncio.Semaphore(settings.endpoint.concurrency)
        self._hopeless = ""
        self._counts_missing = False
        self._prompts: OrderedDict[str, int] = OrderedDict()

    @property
    def troubles(self) -> dict[str, int]:
        """Tries that failed, by kind."""
        return dict(self._client.troubles) if self._client else {}

    async def complete(self, messages: Messages, sampling: Sampling) -> Completion:
        """Raises RequestError if the endpoint refuses the request, Lost if it gives no reply after all tries, and
        Unavailable if it answers nobody."""
        if sampling.prefix:
            raise RequestError("an endpoint cannot continue a text that was begun; choose --strategy independent")
        async with self._free:
            client = await self._opened()
            try:
                answer = await client.ask(self._body(messages, sampling))
            except Failure as failure:
                said = self._in_our_flags(f"--base-url {self._settings.endpoint.base_url}: {failure}")
                if failure.setup:
                    self._hopeless = said
                    raise Unavailable(said) from None
                raise (RequestError if failure.final else Lost)(said) from None
            except UserError as error:
                self._hopeless = self._in_our_flags(str(error))
                raise Unavailable(self._hopeless) from None
        self._hopeless = ""
        self._note_prompt(messages, answer)
        return self._completion(answer)

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

    def _body(self, messages: Messages, sampling: Sampling) -> dict:
        """Fields that ask for nothing are left out: not every endpoint knows them all."""
        body = {
            "model": self._settings.model,
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
        }
        return body | {name: value for name, value in unless.items() if value} | sampling.more

    def _completion(self, answer: Answer) -> Completion:
        text = trace(answer.content, answer.reasoning)
        finished = "length" if answer.finish_reason == "length" else "eos"
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

    def _note_prompt(self, messages: Messages, answer: Answer) -> None:
        self._prompts[_name(messages)] = answer.prompt_tokens or 0
        while len(self._prompts) > REMEMBERED:
            self._prompts.popitem(last=False)

    def _in_our_flags(self, message: str) -> str:
        return renamed(message, self._settings.flags)


def _name(messages: Messages) -> str:
    return json.dumps(list(messages))
