"""The demo's last stages: a process reward model, and several attempts of which it chooses."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.cli.stages import command, output_of, stage

if TYPE_CHECKING:
    from rich.table import Table

PRM = "qwen2.5-math-prm"
SAMPLING_FLAGS = ("--instruction", "", "--style", "think", "--temperature", "1.0", "--max-tokens", "128")
PRM_SAMPLES = 8
PRM_FLAGS = (
    "--data.max_len", "320", "--train.batch_size", "16", "--train.micro_batch_size", "16", "--train.max_epochs", "1",
    "--adam.lr", "2e-3",
)  # fmt: skip
ATTEMPTS = 8
SOLVE_FLAGS = (*SAMPLING_FLAGS, "--max-context", "256", "--separator", "\\n", "--problem-concurrency", "16")
# What is shown of `vote`: a name for people, the rule, and what makes one score of step scores.
RULES = ((f"maj@{ATTEMPTS}", "majority"), (f"weighted@{ATTEMPTS}", "weighted"), (f"best-of-{ATTEMPTS}", "best_of_n"))
AGGREGATION = "product"  # every step is judged by itself: this is the probability that all are right


def train_prm(title: str, model: Path, training: Path, output: Path, problems: int, seed: int) -> None:
    """Train a PRM, `output`/run/model, on the model's attempts at so many training problems."""
    stage(
        title, "eval", "--model", model, "--benchmark", training, "--max-problems", problems,
        "--output", output / "attempts", "--seed", seed, *SAMPLING_FLAGS, "--samples", PRM_SAMPLES,
    )  # fmt: skip
    command(
        "prm", "label", "--source", "tiny-world", "--separator", "\\n", "--heldout", "0.1",
        "--output", output / "labels", output / "attempts" / "completions.jsonl",
    )  # fmt: skip
    command(
        "prm", "train", "--model.model_name_or_path", model, "--data.dataset", output / "labels" / "train.parquet",
        "--eval.dataset", output / "labels" / "heldout.parquet", "--math.run_dir", output / "run",
        "--train.seed", seed, *PRM_FLAGS,
    )  # fmt: skip


def attempt(title: str, model: Path, prm: Path, problems: Path, attempts: int, output: Path, seed: int) -> None:
    """Write so many attempts at each problem, with the scores of the PRM in `prm`, to `output`/attempts.jsonl."""
    output.mkdir(parents=True)
    stage(
        title, "solve", "--model", model, "--scorer", PRM, "--scorer-model", prm / "run" / "model",
        "--problems", problems, "--output", output / "attempts.jsonl", "--seed", seed,
        *SOLVE_FLAGS, "--attempts", attempts, "--no-early-stop",
    )  # fmt: skip


def rerank(title: str, model: Path, prm: Path, problems: Path, output: Path, seed: int) -> dict:
    """Solve the problems. Returns accuracy and interval of one attempt, of each rule, and of a perfect one."""
    attempt(title, model, prm, problems, ATTEMPTS, output, seed)
    rules = [flag for _, rule in RULES for flag in ("--rule", rule)]
    summary = output_of(
        "vote", output / "attempts.jsonl", "--style", "think", *rules, "--aggregate", AGGREGATION, "--seed", seed,
        "--plot", output / "accuracy.png", "--json",
    )  # fmt: skip
    report = json.loads(summary)
    (output / "vote.json").write_text(summary)
    by_rule = {name.partition(",")[0]: row for name, row in report["rules"].items()}
    rows = {"pass@1": report["pass@1"], **{name: by_rule[rule] for name, rule in RULES}}
    rows[f"pass@{ATTEMPTS}"] = report["pass@k"]
    return {name: {"accuracy": row["accuracy"][-1], "ci95": row["interval"]} for name, row in rows.items()}


def reranked_table(rows: dict) -> "Table":
    from rich.table import Table

    table = Table(title="The same problems, several attempts each, after GRPO")
    for column in ("", "accuracy", "95% interval"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in rows.items():
        low, high = row["ci95"]
        table.add_row(name, f"{row['accuracy']:.1%}", f"{low:.1%} to {high:.1%}")
    return table
