"""The token ledger of a rollout: all tokens after its prompt, which of them the model sampled, and their text."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm import CompletionOutput
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
