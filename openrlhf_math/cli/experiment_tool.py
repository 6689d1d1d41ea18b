"""The runs of `openrlhf-math experiments tool`: a student that can write the call, then GRPO with it and without."""

from functools import partial
from pathlib import Path

from openrlhf_math.cli.demo import train
from openrlhf_math.cli.stages import Stages, stage
from openrlhf_math.experiments import tool
from openrlhf_math.experiments.settings import Settings
from openrlhf_math.runs.records import read_records

SFT_FLAGS = (
    "--math.instruction", "", "--no-data.apply_chat_template", "--data.max_len", "128",
    "--train.batch_size", "16", "--train.micro_batch_size", "16", "--train.max_epochs", "1", "--adam.lr", "2e-3",
)  # fmt: skip
# Problems and completions of a GRPO step: an interpreter starts for most completions, which takes longer than to write
# them.
GROUPS, GROUP_SIZE = 8, 4
GRPO_FLAGS = (
    "--math.answer_style", "boxed", "--data.max_len", "128", "--rollout.max_new_tokens", "64",
    "--rollout.batch_size", GROUPS, "--rollout.n_samples_per_prompt", GROUP_SIZE, "--actor.adam.lr", "3e-4",
    "--eval.temperature", "1", "--eval.n_samples_per_prompt", "1",
)  # fmt: skip
WAYS = {tool.WITH: ("--math.tool", "python", "--math.tool_calls", "2"), tool.WITHOUT: ()}


def run_tool(stages: Stages, settings: Settings) -> tool.Findings:
    """Both ways from the same student, seed by seed."""
    runs: dict[str, list[tool.Run]] = {name: [] for name in WAYS}
    for seed in range(settings.seeds):
        student = stages.once(f"seed_{seed}/tool_student", partial(_teach, seed=seed))
        for name, flags in WAYS.items():
            trained = _trained(stages, seed, student, name, flags, settings.steps)
            rows, evaluations = (read_records(trained / file).rows for file in ("metrics.jsonl", "eval.jsonl"))
            runs[name].append(tool.Run(rows, evaluations))
    return tool.analyse(runs)


def _teach(folder: Path, seed: int) -> None:
    """Write world/ and sft/ into `folder`."""
    world = folder / "world"
    folder.mkdir(parents=True)
    stage(
        f"seed {seed}: products, traces, tokenizer and a tiny Qwen", "tiny-world", world, "--problems", "products",
        "--seed", seed,
    )  # fmt: skip
    stage(
        f"seed {seed}: SFT: the student learns to write calls, to copy, and to guess", "sft",
        "--model.model_name_or_path", world / "model", "--data.dataset", world / "traces.jsonl",
        "--math.run_dir", folder / "sft", "--train.seed", seed, *SFT_FLAGS,
    )  # fmt: skip


def _trained(stages: Stages, seed: int, student: Path, name: str, flags: tuple, steps: int) -> Path:
    """The folder of a GRPO run, evaluated after the last step."""
    world = student / "world"
    heldout = ("--eval.dataset", world / "heldout.jsonl", "--eval.steps", steps)

    def work(folder: Path) -> None:
        title = f"seed {seed}: GRPO {name}, {steps} steps"
        more = (*GRPO_FLAGS, "--data.max_samples", GROUPS * steps, *heldout, *flags)
        train(title, student / "sft" / "model", world / "train.jsonl", steps, folder, seed, *more)

    return stages.once(f"seed_{seed}/grpo_{name.replace(' ', '_')}_steps_{steps}", work)
