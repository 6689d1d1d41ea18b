"""The settings of a distillation: teacher, sampling, limits, keep rule."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from openrlhf_math.data.trace import Tags
from openrlhf_math.endpoint.settings import EndpointSettings
from openrlhf_math.errors import at_least
from openrlhf_math.tools.settings import ToolSettings


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How a vLLM engine is run.

    engines            engines as Ray actors; 0 is one in this process
    tensor_parallel    devices one engine is spread over
    max_context        tokens of prompt and completion together; None for the model's own
    concurrency        attempts under way at once in one engine
    engine_args        further arguments of vLLM's engine, which go before ours
    """

    device: str
    engines: int
    tensor_parallel: int
    max_context: int | None
    concurrency: int
    engine_args: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.engines < 0:
            raise ValueError(f"--engines {self.engines}: give 0 (one in this process) or more")
        at_least(1, self, "tensor_parallel", "max_context", "concurrency", error=ValueError)


@dataclass(frozen=True, slots=True)
class DistillSettings:
    """Settings of one distillation. Raises ValueError for values that cannot work.

    teacher        a registered name or a dotted path
    attempts       asked a problem
    most_attempts  asked a problem while none is correct
    max_tokens     token limit of one completion
    seed           of the sampling; None leaves it to the teacher
    instruction    appended to every problem; "" for none
    style          the format a trace must have, as in `rewards.RewardConfig`
    thinking_tags  what the teacher writes around its thinking part, where it is in the content
    keep, keep_n   the rule, and how many it may keep a problem; None is the rule's own number
    questions      how many of the problems are kept, those with the longest responses; None for all
    endpoint       None without --base-url
    tool           that the model may call; None for none
    chat_date      that the chat template of an engine's model writes; None if it writes none
    drawn          how the model thinks: `chat_template_kwargs` and `reasoning_effort` of `rerank.roles.Sampling`
    """

    output: Path
    teacher: str
    model: str
    attempts: int
    most_attempts: int
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    instruction: str
    style: Literal["boxed", "think"]
    thinking_tags: Tags
    keep: str
    keep_n: int | None
    questions: int | None
    endpoint: EndpointSettings | None
    engine: EngineSettings
    tool: ToolSettings | None = None
    drawn: dict[str, Any] = field(default_factory=dict)
    chat_date: str | None = None

    def __post_init__(self) -> None:
        at_least(1, self, "attempts", "max_tokens", "keep_n", error=ValueError)
        if self.most_attempts < self.attempts:
            raise ValueError(
                f"--max-attempts {self.most_attempts}: give --attempts ({self.attempts}) or more, or leave it out"
            )
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"--temperature {self.temperature}: give 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"--top-p {self.top_p}: give more than 0 and at most 1")
        if self.temperature == 0 and self.most_attempts > 1:
            flag = f"--attempts {self.attempts}" if self.attempts > 1 else f"--max-attempts {self.most_attempts}"
            raise ValueError(
                f"{flag}: greedy decoding gives the same trace every time; raise --temperature, or ask once"
            )

    def identity(self) -> dict:
        """What decides the replies. Attempts under another identity must not be mixed with these."""
        names = ("teacher", "model", "max_tokens", "temperature", "top_p", "seed", "instruction")
        identity = {name: getattr(self, name) for name in names}
        if self.teacher == "endpoint" and self.endpoint:
            identity["extra_body"] = self.endpoint.extra_body
        if self.engine.engine_args:
            identity["engine_args"] = self.engine.engine_args
        identity |= {name: value for name, value in self.drawn.items() if value}
        if self.chat_date:
            identity["chat_date"] = self.chat_date
        return identity | (self.tool.identity() if self.tool else {})

    def choice(self) -> dict:
        """What decides, of the same replies, what is kept."""
        return {
            "attempts": self.attempts,
            "max_attempts": self.most_attempts,
            "style": self.style,
            "keep": self.keep,
            "keep_n": "the rule's own" if self.keep_n is None else self.keep_n,
            "questions": f"longest:{self.questions}" if self.questions else "all",
        }
