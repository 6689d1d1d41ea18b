"""What an evaluation is: model, problems, sampling, grading."""

from dataclasses import dataclass
from pathlib import Path

from openrlhf_math.rewards import RewardConfig


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """Settings of one evaluation. Raises ValueError for values that cannot work.

    model              directory or hub name
    samples            completions a problem
    max_tokens         token limit of one completion
    temperature        0 is greedy
    max_context        tokens of prompt and completion together; None for what the problems need
    instruction        appended to every problem; empty for none
    chat_template      whether the model's chat template is applied
    device             "cpu" or "cuda"
    tensor_parallel    devices the engine is spread over
    """

    model: str
    output: Path
    samples: int
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    instruction: str
    chat_template: bool
    device: str
    tensor_parallel: int
    max_context: int | None
    rewards: RewardConfig

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"--samples {self.samples}: give 1 or more")
        if self.max_tokens < 1:
            raise ValueError(f"--max-tokens {self.max_tokens}: give 1 or more")
        if self.temperature < 0:
            raise ValueError(f"--temperature {self.temperature}: give 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"--top-p {self.top_p}: give more than 0 and at most 1")
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(
                f"--samples {self.samples}: greedy decoding gives the same completion every time; "
                "add --temperature 0.6, or leave --samples out"
            )
