"""The demo's last stages: a process reward model, and several attempts of which it chooses."""

import json
from pathlib import Path

from openrlhf_math.cli.stages import command, stage

PRM = "qwen2.5-math-prm"
SAMPLING_FLAGS = ("--instruction", "", "--style", "think", "--temperature", "1.0", "--max-tokens", "128")
PRM_SAMPLES = 8
PRM_FLAGS = (
    "--data.max_len", "320", "--train.batch_size", "16", "--train.micro_batch_size", "16", "--train.max_epochs", "1",
    "--adam.lr", "2e-3",
)  # fmt: skip
ATTEMPTS = 8
SOLVE_FLAGS = (
    *SAMPLING_FLAGS, "--max-context", "256", "--separator", "\\n",
    "--attempts", ATTEMPTS, "--no-early-stop", "--problems-at-once", "16",
)  # fmt: skip
# What is shown of `vote`: a name for people, the rule, and what makes one score of step scores.
RULES = ((f"maj@{ATTEMPTS}", "majority"), (f"weighted@{ATTEMPTS}", "weighted"), (f"best-of-{ATTEMPTS}", "best_of_n"))
AGGREGATION = "min"


def train_prm(title: str, run_dir: Path, problems: int, seed: int) -> None:
    """Train a PRM on the trained model's attempts at so many training problems."""
    model, prm = run_dir / "grpo" / "model", run_dir / "prm"
    stage(
        title, "eval", "--model", model, "--benchmark", run_dir / "world" / "train.jsonl", "--max-problems", problems,
        "--output", prm / "attempts", "--seed", seed, *SAMPLING_FLAGS, "--samples", PRM_SAMPLES,
    )  # fmt: skip
    command(
        "prm", "label", "--source", "tiny-world", "--separator", "\\n", "--heldout", "0.1",
        "--output", prm / "labels", prm / "attempts" / "completions.jsonl",
    )  # fmt: skip
    command(
        "prm", "train", "--model.model_name_or_path", model, "--data.dataset", prm / "labels" / "train.parquet",
        "--eval.dataset", prm / "labels" / "heldout.parquet", "--math.run_dir", prm / "run",
        "--train.seed", seed, *PRM_FLAGS,
    )  # fmt: skip


def rerank(title: str, run_dir: Path, seed: int) -> dict:
    """Solve the held-out problems. Returns accuracy and interval of one attempt, of each rule, and of a perfect one."""
    prm, output = run_dir / "prm" / "run" / "model", run_dir / "rerank"
    output.mkdir()
    stage(
        title, "solve", "--model", run_dir / "grpo" / "model", "--scorer", PRM, "--scorer-model", prm,
        "--file", run_dir / "world" / "heldout.jsonl", "--output", output / "attempts.jsonl",
        "--seed", seed, *SOLVE_FLAGS,
    )  # fmt: skip
    rules = [flag for _, rule in RULES for flag in ("--rule", rule)]
    told = command(
        "vote", output / "attempts.jsonl", "--style", "think", *rules, "--aggregate", AGGREGATION, "--seed", seed,
        "--plot", output / "accuracy.png", "--json", capture=True,
    )  # fmt: skip
    report = json.loads(told)
    (output / "vote.json").write_text(told)
    by_rule = {name.partition(",")[0]: row for name, row in report["rules"].items()}
    rows = {"pass@1": report["pass@1"], **{name: by_rule[rule] for name, rule in RULES}}
    rows[f"pass@{ATTEMPTS}"] = report["pass@k"]
    return {name: {"accuracy": row["accuracy"][-1], "ci95": row["interval"]} for name, row in rows.items()}


def reranked_table(rows: dict):
    from rich.table import Table

    table = Table(title="The same problems, several attempts each, after GRPO")
    for column in ("", "accuracy", "95% interval"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in rows.items():
        low, high = row["ci95"]
        table.add_row(name, f"{row['accuracy']:.1%}", f"{low:.1%} to {high:.1%}")
    return table
