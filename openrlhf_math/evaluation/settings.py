"""What an evaluation is: the model, how it is asked and where it runs, and how its completions are graded."""

import hashlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from openrlhf_math.evaluation.benchmarks import Sampling
from openrlhf_math.evaluation.problem_sets import ProblemSet
from openrlhf_math.rerank.answer_judge import JudgeSettings
from openrlhf_math.rerank.confidence import Watch
from openrlhf_math.rerank.endpoint_sampler import EndpointModel
from openrlhf_math.rerank.scoring_engine import ScorerSettings
from openrlhf_math.rerank.verdicts import AskedScorerSettings
from openrlhf_math.rewards import RewardConfig
from openrlhf_math.tools.settings import ToolSettings

BLOCKS, BLOCK = 16, 1 << 16


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """Settings of one evaluation. How each benchmark is sampled is in its `ProblemSet`.

    model              directory or hub name
    seed               the seed of every completion is derived from it; also of the bootstrap
    prompt             name of a prompt style, or a dotted path
    instruction        appended to every problem; empty for none
    input_template     what a problem with its instruction is put into, see `data.prompts.fill`; None for nothing
    device             "cpu" or "cuda"
    tensor_parallel    devices the engine is spread over
    engines            Ray actors with an engine each; 0: one engine in this process
    max_context        tokens of prompt and completion together; None for what the problems need
    parquet            whether completions are written as Parquet too
    scorer             what scores the completions for the rules that choose by scores; None without one
    aggregation        of step scores, a name of `rerank.aggregate` or a dotted path
    endpoint           where the model is asked; None: an engine here
    judge              what decides where the grader cannot; None without one
    engine_args        further arguments of vLLM's engine, which go before ours
    drawn              how the model thinks: `chat_template_kwargs` and `reasoning_effort` of `roles.Sampling`
    tool               that the model may call; None for none
    chat_date          that the chat template writes; None if it writes none
    watch              how the model's confidence in each completion is measured; None: it is not
    """

    model: str
    output: Path
    seed: int
    prompt: str
    instruction: str
    device: str
    tensor_parallel: int
    max_context: int | None
    parquet: bool
    rewards: RewardConfig
    scorer: ScorerSettings | AskedScorerSettings | None = None
    aggregation: str = "last"
    input_template: str | None = None
    endpoint: EndpointModel | None = None
    judge: JudgeSettings | None = None
    engine_args: dict[str, object] = field(default_factory=dict)
    drawn: dict[str, Any] = field(default_factory=dict)
    tool: ToolSettings | None = None
    watch: Watch | None = None
    engines: int = 0
    chat_date: str | None = None

    def identity(self, sets: list[ProblemSet]) -> dict:
        """What decides the completions: those under another identity must not be mixed with these. By flag."""
        sampling = {one.name: asdict(one.sampling) for one in sets}
        return {
            "model": self.model,
            **(
                {"base_url": self.endpoint.endpoint.base_url, "extra_body": self.endpoint.endpoint.extra_body}
                if self.endpoint
                else {"weights": fingerprint(Path(self.model))}
            ),
            **{name: value for name, value in self.drawn.items() if value},
            **({"engine_args": self.engine_args} if self.engine_args else {}),
            **({"chat_date": self.chat_date} if self.chat_date else {}),
            "seed": self.seed,
            "prompt": self.prompt,
            "instruction": self.instruction,
            "input_template": self.input_template,
            **(self.tool.identity() if self.tool else dict.fromkeys(ToolSettings().identity())),
            "record_confidence": self.watch is not None,
            "confidence_window": self.watch and self.watch.window,
            "benchmark": [one.name for one in sets],
            "problems": {one.name: one.digest() for one in sets},
            **{
                flag: {name: values[flag] for name, values in sampling.items()}
                for flag in (one.name for one in fields(Sampling))
            },
        }


def fingerprint(model: Path) -> str:
    """Distinguishes a model directory from an earlier one at the same path; "" for a hub name.

    Of every weight file its size and 16 blocks of 64 KiB, evenly spread: training moves all of them.
    """
    digest = hashlib.sha256()
    files = sorted(one for one in model.glob("*") if one.suffix in (".safetensors", ".bin", ".json"))
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as opened:
            for number in range(BLOCKS):
                opened.seek(max(0, size - BLOCK) * number // (BLOCKS - 1))
                digest.update(opened.read(BLOCK))
    return digest.hexdigest()[:16] if files else ""
