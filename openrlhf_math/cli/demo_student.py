"""The demo's first stages: a tiny world, and a student who has learned a teacher's verbose chains of thought."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from openrlhf_math.cli.stages import command_line, stage

DISTILL_FLAGS = ("--attempts", "1", "--max-tokens", "400", "--keep", "verified")
SFT_FLAGS = (
    "--math.instruction", "", "--data.max_len", "256",
    "--train.batch_size", "8", "--train.micro_batch_size", "8", "--train.max_epochs", "1", "--adam.lr", "2e-3",
)  # fmt: skip


def teach_student(titled: Callable[[str], str], run_dir: Path, seed: int) -> None:
    """Write world/, problems/, traces/ and sft/ into `run_dir`. titled: the heading of a stage, from its name."""
    world, sft = run_dir / "world", run_dir / "sft"
    stage(titled("problems, tokenizer and a tiny Qwen with random weights"), "tiny-world", world, "--seed", seed)
    stage(
        titled("curation: filters, duplicates, held-out problems"), "curate",
        "--source", f"tiny={world / 'raw.jsonl'}", "--benchmark", f"heldout={world / 'heldout.jsonl'}",
        "--output", run_dir / "problems", "--workers", 0,
    )  # fmt: skip
    with teacher() as address:
        stage(
            titled("distillation: a teacher behind an HTTP endpoint, its traces verified"), "distill",
            "--problems", run_dir / "problems", "--output", run_dir / "traces", "--base-url", address,
            "--model", "tiny-teacher", "--seed", seed, *DISTILL_FLAGS,
        )  # fmt: skip
    stage(
        titled("SFT: the student learns the teacher's verbose chains of thought"), "sft",
        "--model.model_name_or_path", world / "model", "--data.dataset", run_dir / "traces" / "dataset",
        "--math.run_dir", sft, "--train.seed", seed, *SFT_FLAGS,
    )  # fmt: skip


@contextmanager
def teacher() -> Iterator[str]:
    """The address of the programmatic teacher, which serves while the block runs."""
    with subprocess.Popen(command_line("tiny-teacher"), stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout  # a pipe
            yield server.stdout.readline().strip()  # it listens when it prints
        finally:
            server.terminate()
