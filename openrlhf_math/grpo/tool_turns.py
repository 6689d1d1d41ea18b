"""Rollouts in which the model calls Python: its turns and the tool's, one sequence of tokens.

What the model sampled is never tokenised again. What the tool printed is tokenised once and appended; these tokens are
no actions, so neither the loss nor a mean over action tokens reads them. Text in it that looks like a control token is
none.
"""

import time

from openrlhf_math.colocation.layout import cores
from openrlhf_math.data.prompts import Continued
from openrlhf_math.grpo.seeds import derived_seed
from openrlhf_math.grpo.tool_settings import ToolSettings, isolation_of, limits
from openrlhf_math.grpo.written import Written, answer_tokens
from openrlhf_math.tools.code_blocks import STOPS, Call, harmless, last_call, response
from openrlhf_math.tools.pool import KernelPool, Session

# For a place among the kernels while others hold theirs, each until its completion ends.
PLACE_SECONDS = 600.0
# Texts that end as a call does and are none, in a row: then nobody looks for calls any more. It bounds the work.
MOST_FALSE_STOPS = 64
PLACEHOLDER = "\0"


class ToolTurns:
    """Of a vLLM engine. tokenizer: the engine's.

    Raises UserError where the machine gives no isolation, or the tokenizer cannot continue a text.
    """

    def __init__(self, settings: ToolSettings, tokenizer, model: str) -> None:
        self.settings = settings
        self.pool = KernelPool(limits(settings), isolation_of(settings), settings.kernels, cores())
        self.tokenizer, self.continued = tokenizer, continued(tokenizer, model)
        self.special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}

    async def write(self, ids: list[int], params, number: int, engine) -> Written:
        """One completion behind the prompt `ids`, of `params.max_tokens` tokens with the tool's at the most.

        params: vLLM's, for one completion; a seed is that of the prompt. number: of the completion in its group.
        A reply that leaves no room for a token of the model is left out, and the completion counts as cut off.
        """
        written, limit, seed, turns = Written(), params.max_tokens, params.seed, 0
        calls = failed = false_stops = since = 0
        seconds, said = 0.0, []  # said: the model's tokens that a person reads
        async with self.pool.session() as session:
            while True:
                looks = calls < self.settings.calls and false_stops < MOST_FALSE_STOPS
                params.stop, params.detokenize = list(STOPS) if looks else [], looks
                params.max_tokens = limit - len(written.ids)
                params.seed = None if seed is None else derived_seed(seed, number, turns)
                (completion,) = (await engine.generate(ids + written.ids, params)).outputs
                written.add_turn(completion)
                said += answer_tokens(completion)
                turns += 1
                if not isinstance(completion.stop_reason, str):  # the end of its turn, or the limit
                    break
                if len(written.ids) >= limit:
                    written.truncated = True
                    break
                if call := last_call(self.text(written.ids[since:])):
                    started = time.perf_counter()
                    status, output = await self._run(session, call)
                    seconds += time.perf_counter() - started
                    calls, failed, false_stops = calls + 1, failed + (status != "ok"), 0
                    reply = self.reply(call, output)
                    if len(written.ids) + len(reply) >= limit:
                        written.truncated = True
                        break
                    written.add_reply(reply)
                    since = len(written.ids)
                else:
                    false_stops += 1
        written.text = self.text(said)
        own = sum(stop - start for start, stop in written.actions)
        written.logs = {
            "tool/calls": float(calls),
            "tool/failed_calls": float(failed),
            "tool/seconds": seconds,
            "tool/tokens": float(len(written.ids) - own),
        }
        return written

    async def _run(self, session: Session, call: Call) -> tuple[str, str]:
        """How it ended ("ok", "error", ...), and what the model is shown."""
        if call.code is None:
            return "error", f"[{call.fault}]"
        result = await session.run(call.code, PLACE_SECONDS + self.pool.limits.wall)
        return result.status, result.output

    def text(self, token_ids: list[int]) -> str:
        return self.tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def reply(self, call: Call, output: str) -> list[int]:
        """The tokens that follow a call. In `output` no control token is read."""
        before, _, after = response(call, PLACEHOLDER, "\n").partition(PLACEHOLDER)
        output = harmless(output).strip("\n").replace(PLACEHOLDER, "")
        first, shown, last = self.continued.ids([before, output, after])
        if self.special.intersection(shown):
            shown = self.tokenizer(output, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return first + [token for token in shown if token not in self.special] + last


def continued(tokenizer, model: str) -> Continued:
    """Raises UserError if the tokenizer puts a space in front of all texts."""
    return Continued("--math.tool: --actor.model_name_or_path", model, tokenizer)
