"""The tool for a model behind an endpoint, which cannot continue a text: the output is the user's next message."""

import asyncio
import time
from dataclasses import replace

from openrlhf_math.rerank.endpoint_sampler import EndpointSampler
from openrlhf_math.rerank.roles import Completion, CutOff, Messages, Sampling
from openrlhf_math.rewards.own_words import OUTPUT_BEGINS
from openrlhf_math.tools.attempt import LAST_CALL, ToolUse, seed_of_request
from openrlhf_math.tools.code_blocks import Call, Reader
from openrlhf_math.tools.isolation import find_isolation
from openrlhf_math.tools.pool import KernelPool, places_for, running_for
from openrlhf_math.tools.settings import ToolSettings
from openrlhf_math.tools.turns import BlockTurns

THINKING_ENDS = "</think>"


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
        """Raises what the endpoint's sampler raises."""
        said, parts, tokens, use = list(messages), [], 0, ToolUse()
        async with self._pool.session() as session:
            for number in range(self._settings.calls + 1):
                last = number == self._settings.calls
                asked = replace(
                    sampling,
                    max_tokens=sampling.max_tokens - tokens,
                    stop=sampling.stop if last else (*sampling.stop, OUTPUT_BEGINS),
                    seed=seed_of_request(sampling.seed, number),
                )
                made = await self.sampler.complete(said, asked)
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
                said += [
                    {"role": "assistant", "content": written.rpartition(THINKING_ENDS)[2].strip()},
                    {"role": "user", "content": answer.strip()},
                ]
                if tokens >= sampling.max_tokens:
                    break
        return Completion("".join(parts), tokens, "length", use)


def first_call(text: str) -> tuple[Call | None, str]:
    """The first block of code behind the thinking part, and the text up to its end; without one None and the text."""
    thinking, closed, rest = text.rpartition(THINKING_ENDS)
    reader, read = Reader("block"), len(thinking + closed)
    for line in rest.splitlines(keepends=True):
        read += len(line)
        if call := reader.add(line):
            return call, text[:read]
    return None, text
