"""Rollouts in which the model calls Python: its turns and the tool's, one sequence of tokens.

What the model sampled is never tokenised again. What the tool printed is tokenised once and appended; these tokens are
no actions, so neither the loss nor a mean over action tokens reads them. Text in it that looks like a control token is
none.
"""

import time
from collections import Counter

from openrlhf_math.colocation.layout import cores
from openrlhf_math.data.prompts import Continued
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.seeds import derived_seed
from openrlhf_math.grpo.tool_settings import ToolSettings, isolation_of, limits
from openrlhf_math.grpo.written import Written, answer_tokens
from openrlhf_math.tools.code_blocks import Call
from openrlhf_math.tools.pool import KernelPool, Session
from openrlhf_math.tools.turns import BlockTurns, find_turns

# For a place among the kernels while others hold theirs, each until its completion ends.
PLACE_SECONDS = 600.0
# Texts that end as a call does and are none, before the next call: then nobody looks for calls any more. It bounds the
# work.
MOST_FALSE_STOPS = 64
MODEL_FLAG = "--actor.model_name_or_path"


class ToolTurns:
    """Of a vLLM engine. tokenizer: the engine's. model: its name, for messages.

    Raises UserError where the machine gives no isolation, or the tokenizer cannot do it.
    """

    def __init__(self, settings: ToolSettings, tokenizer, model: str) -> None:
        self.settings = settings
        self.pool = KernelPool(limits(settings), isolation_of(settings), settings.kernels, cores())
        self.tokenizer, self.turns = tokenizer, turns_of(settings, tokenizer, model)
        self.continued = Continued(MODEL_FLAG, model, tokenizer)
        self.special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}

    async def write(self, ids: list[int], params, number: int, engine) -> Written:
        """One completion behind the prompt `ids`, of `params.max_tokens` tokens with the tool's at the most.

        params: vLLM's, for one completion; a seed is that of the prompt. number: of the completion in its group.
        A reply that leaves no room for a token of the model is left out, and the completion counts as cut off.
        """
        written, limit, seed, requests = Written(), params.max_tokens, params.seed, 0
        calls = failed = false_stops = 0
        seconds, said = 0.0, []  # said: the model's tokens that a person reads
        since, text, reader = 0, "", self.turns.reader()  # of the turn: its first token, its text, what reads calls
        async with self.pool.session() as session:
            while True:
                looks = calls < self.settings.calls and false_stops < MOST_FALSE_STOPS
                params.stop, params.detokenize = list(self.turns.stops) if looks else [], looks
                params.max_tokens = limit - len(written.ids)
                params.seed = None if seed is None else derived_seed(seed, number, requests)
                (completion,) = (await engine.generate(ids + written.ids, params)).outputs
                written.add_turn(completion)
                said += answer_tokens(completion)
                requests += 1
                if not isinstance(completion.stop_reason, str):  # the end of its turn, or the limit
                    break
                if len(written.ids) >= limit:
                    written.truncated = True
                    break
                before, text = text, self.text(written.ids[since:])
                call = reader.add(text[len(before) :])
                if call is None:
                    false_stops += 1
                    continue
                started = time.perf_counter()
                status, output = await self._run(session, call)
                seconds += time.perf_counter() - started
                calls, failed, false_stops = calls + 1, failed + (status != "ok"), 0
                reply = self.reply(call, output)
                if len(written.ids) + len(reply) >= limit:
                    written.truncated = True
                    break
                written.add_reply(reply)
                since, text, reader = len(written.ids), "", self.turns.reader()
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
        """How it ended ("ok", "error", ...), and what it printed."""
        if call.code is None:
            return "error", ""
        result = await session.run(call.code, PLACE_SECONDS + self.pool.limits.wall)
        return result.status, result.output

    def text(self, token_ids: list[int]) -> str:
        return self.tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def reply(self, call: Call, output: str) -> list[int]:
        """The tokens that follow a call. The output gives no control token to those that the form itself has.

        A tokenizer's normaliser may make one of other characters: then what is not ASCII is written as escapes.
        """
        own = self._control(self._ids(call, "7"))
        for shown in (output, output.encode("ascii", "backslashreplace").decode()):
            ids = self._ids(call, shown)
            if self._control(ids) == own:
                return ids
        return self._ids(call, "[the output cannot be shown]")

    def _ids(self, call: Call, output: str) -> list[int]:
        (ids,) = self.continued.ids([self.turns.response(call, output)])
        return ids

    def _control(self, ids: list[int]) -> Counter:
        return Counter(token for token in ids if token in self.special)


def turns_of(settings: ToolSettings, tokenizer, model: str) -> BlockTurns:
    """How calls and replies are written. Raises UserError if the model's chat template cannot do it."""
    try:
        return find_turns(settings.form, tokenizer, settings.output, model)
    except UserError as error:
        words = str(error).replace("--tool-form", "--math.tool_form").replace("--model ", f"{MODEL_FLAG} ")
        raise UserError(words) from None
