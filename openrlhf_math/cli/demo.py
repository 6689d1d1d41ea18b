"""`openrlhf-math demo`: the whole chain on this machine, from random weights to a before/after table."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openrlhf_math.cli.demo_rerank import rerank, reranked_table, train_prm
from openrlhf_math.cli.stages import stage
from openrlhf_math.errors import UserError

# What the tiny world needs; every value is a flag of the command it goes to.
MAX_NEW_TOKENS = "128"
DISTILL_FLAGS = ("--attempts", "1", "--max-tokens", "400", "--keep", "all")
SFT_FLAGS = (
    "--math.instruction", "", "--data.max_len", "256",
    "--train.batch_size", "8", "--train.micro_batch_size", "8", "--train.max_epochs", "1", "--adam.lr", "2e-3",
)  # fmt: skip
GRPO_FLAGS = (
    "--math.instruction", "", "--math.answer_style", "think",
    "--data.max_len", "256", "--rollout.max_new_tokens", MAX_NEW_TOKENS,
    "--rollout.batch_size", "16", "--rollout.n_samples_per_prompt", "8",
    "--actor.adam.lr", "2e-4", "--actor.lr_scheduler", "constant_with_warmup", "--actor.entropy_coef", "0",
)  # fmt: skip
EVAL_FLAGS = (
    "--instruction", "", "--style", "think", "--samples", "4", "--temperature", "1.0", "--max-tokens", MAX_NEW_TOKENS,
)  # fmt: skip


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Make a tiny Qwen and a synthetic problem set, curate it, distil a verbose teacher into the model "
        "(SFT), train it with GRPO through OpenRLHF, Ray, vLLM and DeepSpeed, compare it before and after, train a "
        "process reward model on its attempts, and let that choose among several.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--run-dir", type=Path, default=Path("runs/demo"), help="where its files go; must not exist")
    parser.add_argument("--seed", type=int, default=0, help="of the problems, the weights and the sampling")
    parser.add_argument("--steps", type=int, default=80, help="GRPO steps")
    parser.add_argument("--prm-problems", type=int, default=500, help="problems whose attempts the PRM learns from")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.run_dir.exists():
        raise UserError(f"--run-dir {args.run_dir} exists already; choose a new one or remove it")
    for flag in ("steps", "prm_problems"):
        if getattr(args, flag) < 1:
            raise UserError(f"--{flag.replace('_', '-')} {getattr(args, flag)}: give 1 or more")
    try:
        summary = chain(args.run_dir.absolute(), args.seed, args.steps, args.prm_problems)
    except subprocess.CalledProcessError as error:
        print(f"openrlhf-math demo: stage '{error.cmd[3]}' failed, its message is above", file=sys.stderr)
        return 1
    show(summary, args.run_dir)
    return 0


def chain(run_dir: Path, seed: int, steps: int, prm_problems: int) -> dict:
    """Run the stages. Returns the summary, which is also written to summary.json.

    Raises CalledProcessError if a stage fails.
    """
    start = time.time()
    world, sft, grpo = run_dir / "world", run_dir / "sft", run_dir / "grpo"
    heldout, seed_flag = world / "heldout.jsonl", ("--train.seed", str(seed))
    stage("1/9 problems, tokenizer and a tiny Qwen with random weights", "tiny-world", world, "--seed", seed)
    stage(
        "2/9 curation: filters, duplicates, held-out problems", "curate", "--source", f"tiny={world / 'raw.jsonl'}",
        "--benchmark", f"heldout={heldout}", "--output", run_dir / "problems", "--workers", 0,
    )  # fmt: skip
    with teacher() as address:
        stage(
            "3/9 distillation: a teacher behind an HTTP endpoint, its traces verified", "distill",
            "--problems", run_dir / "problems", "--output", run_dir / "traces", "--base-url", address,
            "--model", "tiny-teacher", "--seed", seed, *DISTILL_FLAGS,
        )  # fmt: skip
    stage(
        "4/9 SFT: the student learns the teacher's verbose chains of thought", "sft",
        "--model.model_name_or_path", world / "model", "--data.dataset", run_dir / "traces" / "dataset",
        "--math.run_dir", sft, *seed_flag, *SFT_FLAGS,
    )  # fmt: skip
    before = evaluate("5/9 evaluation before GRPO", sft / "model", heldout, run_dir / "eval_before", seed)
    stage(
        f"6/9 GRPO: {steps} steps, no reference model, training and vLLM on the same device", "grpo",
        "--actor.model_name_or_path", sft / "model", "--data.prompt_dataset", world / "train.jsonl",
        "--data.max_samples", 16 * steps, "--math.run_dir", grpo, *seed_flag, *GRPO_FLAGS,
    )  # fmt: skip
    after = evaluate("7/9 evaluation after GRPO", grpo / "model", heldout, run_dir / "eval_after", seed)
    train_prm("8/9 a process reward model learns from the model's attempts", run_dir, prm_problems, seed)
    reranked = rerank("9/9 several attempts at each held-out problem, scored and put to the vote", run_dir, seed)

    records = [json.loads(line) for line in (grpo / "metrics.jsonl").read_text().splitlines()]
    summary = {
        "seed": seed,
        "steps": len(records),
        "before": before,
        "after": after,
        "reranked": reranked,
        "seconds_total": time.time() - start,
        "seconds_to_first_step": records[0]["seconds_since_start"],
        "seconds_per_step": sum(record["timing/step_total"] for record in records) / len(records),
    }
    (run_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


@contextmanager
def teacher() -> Iterator[str]:
    """The address of the programmatic teacher, which serves while the block runs."""
    serving = [sys.executable, "-m", "openrlhf_math", "tiny-teacher"]
    with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().strip()  # it listens when it prints
        finally:
            server.terminate()


def evaluate(title: str, model: Path, heldout: Path, output: Path, seed: int) -> dict:
    stage(title, "eval", "--model", model, "--benchmark", heldout, "--output", output, "--seed", seed, *EVAL_FLAGS)
    result = json.loads((output / "summary.json").read_text())
    return {key: result[key] for key in ("pass_at_1", "ci95", "completion_tokens", "tokens_per_correct")}


def show(summary: dict, run_dir: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Held-out problems, before and after GRPO")
    for column in ("", "pass@1", "95% interval", "tokens a completion", "tokens a correct answer"):
        table.add_column(column, justify="right" if column else "left")
    for name in ("before", "after"):
        row = summary[name]
        low, high = row["ci95"]
        table.add_row(
            name, f"{row['pass_at_1']:.1%}", f"{low:.1%} to {high:.1%}",
            f"{row['completion_tokens']:.1f}", f"{row['tokens_per_correct'] or float('inf'):.1f}",
        )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(reranked_table(summary["reranked"]))
    console.print(
        f"{summary['steps']} steps of {summary['seconds_per_step']:.2f} s, the first done after "
        f"{summary['seconds_to_first_step']:.0f} s; {summary['seconds_total']:.0f} s in all"
    )
    for path, what in (
        ("summary.json", "the figures above"),
        ("grpo/metrics.jsonl", "one object a step"),
        ("grpo/tensorboard", "tensorboard --logdir"),
        ("grpo/model", "the trained model"),
        ("eval_after/completions.jsonl", "every completion with its grade"),
        ("prm/run/model", "the process reward model"),
        ("rerank/attempts.jsonl", "attempts, step scores and votes; openrlhf-math vote"),
        ("rerank/accuracy.png", "accuracy by the number of attempts"),
    ):
        console.print(f"  {run_dir / path}  [dim]{what}[/dim]", soft_wrap=True, highlight=False)
