"""Rollouts in which the model calls Python: its turns and the tool's, one sequence of tokens.

The token ledger has all tokens after the prompt, which of them the model sampled, and their text. What the model
sampled is never tokenised again. What the tool printed is tokenised once and appended; these tokens are not actions, so
neither the loss nor a mean over action tokens reads them.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.grpo.rollout.tool_settings import FLAGS, RolloutTool
from openrlhf_math.rewards.own_words import own_words
from openrlhf_math.seeds import derived_seed
from openrlhf_math.tools.attempt import Piece, Tool, ToolAttempt
from openrlhf_math.tools.pool import KernelPool, running_for

if TYPE_CHECKING:
    from vllm import CompletionOutput, SamplingParams
    from vllm.logprobs import FlatLogprobs


@dataclass(slots=True)
class TokenLedger:
    """ids: all tokens behind the prompt. actions: ranges (start, stop) of those that the model sampled, in order; the
    others are a tool's. log_probs: of each token, 0 for a tool's.

    truncated: cut off at the limit. text: what a person reads of the model's tokens, for the grader. logs: numbers of
    this rollout for the metrics.
    """

    ids: list[int] = field(default_factory=list)
    actions: list[tuple[int, int]] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    truncated: bool = False
    text: str = ""
    logs: dict[str, float] = field(default_factory=dict)

    def add_turn(self, completion: "CompletionOutput") -> None:
        """Tokens of a vLLM completion, which has the log-probabilities of the sampled ones, in vLLM's flat form.

        Raises ValueError if their numbers differ.
        """
        token_ids = list(completion.token_ids)
        self.actions.append((len(self.ids), len(self.ids) + len(token_ids)))
        self.log_probs += sampled_log_probs(token_ids, completion.logprobs)
        self.ids += token_ids
        self.truncated = completion.finish_reason == "length"

    def add_reply(self, token_ids: list[int]) -> None:
        """A tool's tokens."""
        self.ids += token_ids
        self.log_probs += [0.0] * len(token_ids)

    def response(self, prompt_ids: list[int]) -> dict:
        """In the form that OpenRLHF's sample generator reads."""
        start = len(prompt_ids)
        return {
            "observation_tokens": prompt_ids + self.ids,
            "action_ranges": [(start + first, start + last) for first, last in self.actions],
            "rollout_log_probs": [0.0] * start + self.log_probs,
            "truncated": self.truncated,
        }


def answer_tokens(completion: "CompletionOutput") -> list[int]:
    """The tokens a person reads: all but the one that ended the completion."""
    token_ids = list(completion.token_ids)
    ended_by_token = completion.finish_reason == "stop" and not isinstance(completion.stop_reason, str)
    return token_ids[:-1] if ended_by_token else token_ids


def sampled_log_probs(token_ids: list[int], logprobs: "FlatLogprobs") -> list[float]:
    """Log-probability of each sampled token, from vLLM's flat list of one entry a token."""
    if len(logprobs.logprobs) != len(token_ids):
        raise ValueError(f"vLLM gave {len(logprobs.logprobs)} log-probabilities for {len(token_ids)} tokens")
    return list(logprobs.logprobs)


class ToolTurns:
    """Of a vLLM engine. tokenizer: the engine's. model: its name, for messages. engines: of this node.

    Raises UserError where the machine gives no isolation, or the tokenizer or the chat template cannot do it.
    """

    def __init__(self, settings: RolloutTool, tokenizer: Tokenizer, model: str, engines: int = 1) -> None:
        self.tokenizer = tokenizer
        self.tool = opened(settings, tokenizer, model)
        isolation, places = self.tool.pool.isolation, settings.places(engines)
        self.tool.pool = KernelPool(settings.limits(), isolation, places, running_for())

    async def write(self, ids: list[int], params: "SamplingParams", number: int, engine: Any) -> TokenLedger:
        """One completion behind the prompt `ids`, of `params.max_tokens` tokens with the tool's at the most.

        params: vLLM's, for one completion; a seed is that of the prompt. number: of the completion in its group.
        A call at the end of a turn that the model ended is not run: that end is an action, and stays one.
        """
        ledger, attempt, seed = TokenLedger(), ToolAttempt(self.tool), params.seed

        async def generate(context: list[int], most: int, stop: tuple[str, ...], request: int) -> Piece:
            ledger.add_reply(context[len(ids) + len(ledger.ids) :])
            params.stop, params.detokenize, params.max_tokens = list(stop), bool(stop), most
            params.seed = None if seed is None else derived_seed(f"{seed}\0{number}\0{request}")
            (completion,) = (await engine.generate(context, params)).outputs
            ledger.add_turn(completion)
            token_ids = list(completion.token_ids)
            stopped = completion.stop_reason if isinstance(completion.stop_reason, str) else None
            cut_off = ledger.truncated or (stopped and len(token_ids) >= most)  # no room for a reply
            finished = "length" if cut_off else "stop" if stopped else "end"
            return Piece(token_ids, self._text(context[-1:], answer_tokens(completion)), finished, stopped)

        await attempt.write(generate, ids, params.max_tokens)
        ledger.truncated = attempt.finished == "length"
        ledger.text = own_words(attempt.text)
        use = attempt.use
        ledger.logs = {
            "tool/calls": float(use.calls),
            "tool/failed_calls": float(use.failed),
            "tool/seconds": use.seconds,
            "tool/tokens": float(use.tokens),
        }
        return ledger

    def _text(self, before: list[int], token_ids: list[int]) -> str:
        """Of tokens behind others: some tokenizers leave out the space in front of a text."""
        first, whole = (
            self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            for ids in (before, before + token_ids)
        )
        return whole[len(first) :]


def opened(settings: RolloutTool, tokenizer: Tokenizer, model: str) -> Tool:
    """Raises UserError, with the flags of `grpo`, as `Tool` does."""
    return Tool(settings, tokenizer, model, FLAGS)


def tools_of(settings: RolloutTool | None, tokenizer: Tokenizer, model: str) -> list[dict] | None:
    """What the chat template tells the model of. Raises UserError as `opened`, before anything starts."""
    return opened(settings, tokenizer, model).turns.tools if settings else None
