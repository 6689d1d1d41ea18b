"""The roles in solving: a sampler writes completions, and a scorer judges them.

Solving, searching and refining depend only on these declarations, so that they run over Ray actors, over objects in
this process, or over a user's own objects.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from openrlhf_math.rerank.aggregate import Scores
from openrlhf_math.rerank.confidence import Confidence, Watch
from openrlhf_math.tools.attempt import ToolUse

Messages = Sequence[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a completion is drawn.

    max_tokens  of this completion, at least 1; a tool's output counts
    stop        texts at which it ends; they stay in its text
    prefix      beginning of the assistant's turn, which the completion continues
    seed        of this completion; None: a new one each time
    top_k       tokens that are drawn from; 0 for all. min_p, penalties: as in vLLM's SamplingParams
    watch       how the model's confidence is measured; None if it is not read
    more        other fields of vLLM's SamplingParams

    chat_template_kwargs  variables of the model's chat template
    reasoning_effort      how much a model is to think, which its chat template says to it; None leaves it to that
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 2048
    stop: tuple[str, ...] = ()
    prefix: str = ""
    seed: int | None = None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    watch: Watch | None = None
    more: dict[str, object] = field(default_factory=dict)
    chat_template_kwargs: dict[str, object] = field(default_factory=dict)
    reasoning_effort: str | None = None

    @property
    def template_variables(self) -> dict[str, object]:
        """Of the chat template, with the effort as in vLLM's server: some templates only know thinking on or off."""
        if self.reasoning_effort is None:
            return self.chat_template_kwargs
        thinks = self.reasoning_effort != "none"
        return {"enable_thinking": thinks} | self.chat_template_kwargs | {"reasoning_effort": self.reasoning_effort}


@dataclass(frozen=True, slots=True)
class Completion:
    """What a sampler wrote.

    text      without the prefix
    tokens    of `text`
    finished  "eos": the model ended its turn; "stop": at one of the stop texts; "length": the limit cut it off;
              UNSURE: its confidence fell below the floor
    confidence  None where it was not asked for, or no token says anything
    tool      what was done with the tool, whose output is in `text` and not in `tokens`; None without one
    dropped   tokens that were written after the last of `text`, before the engine could be stopped
    """

    text: str
    tokens: int
    finished: str
    tool: ToolUse | None = None
    confidence: Confidence | None = None
    dropped: int = 0


UNSURE = "unsure"


class CutOff(asyncio.CancelledError):
    """The completion was cancelled, and this many tokens of it had been written; at_least: or more."""

    def __init__(self, tokens: int, at_least: bool = False) -> None:
        super().__init__()
        self.tokens, self.at_least = tokens, at_least


class RequestError(Exception):
    """This request cannot be served, others can; its text says why, as a sentence for the user."""


class Lost(RequestError):
    """This completion failed after all tries; another one of the same prompt may succeed.

    tokens: that had been written of it.
    """

    tokens = 0


class Unavailable(Exception):
    """A sampler or scorer is unavailable for now; the text says why, as a sentence for the user."""


class Unmeasured(Unavailable):
    """A sampler gives no confidence, which the rule needs; other rules work with it."""


class Gone(Unavailable):
    """Permanently unavailable: what died is not restarted."""


class Sampler(Protocol):
    """Requests run side by side: call `complete` as often as wanted at once."""

    async def complete(self, messages: Messages, sampling: Sampling) -> Completion:
        """One completion of a chat. Cancelling it frees what it held, and raises CutOff if its tokens are known.

        Raises RequestError for a prompt that leaves no room in the context.
        """


class Scorer(Protocol):
    """Requests run side by side, as a sampler's."""

    async def score(self, problem: str, responses: Sequence[str]) -> list[Scores]:
        """For each response its step scores in order, or one number for the whole, higher is better; None if it cannot
        be scored (it is empty, or longer than the scorer's context).

        A response may be the beginning of a solution: then the steps that are there are scored.
        """
