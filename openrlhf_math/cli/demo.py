"""`openrlhf-math demo`: the whole chain on this machine, from random weights to a before/after table."""

import argparse
import json
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

from openrlhf_math.cli.demo_rerank import rerank, reranked_table, train_prm
from openrlhf_math.cli.demo_student import teach_student
from openrlhf_math.cli.stages import failed_command, stage
from openrlhf_math.colocation import preloaded
from openrlhf_math.colocation.layout import enter_environment, find_device
from openrlhf_math.data.files import claim_directory
from openrlhf_math.errors import UserError

# What the tiny world needs; every value is a flag of the command it goes to.
MAX_NEW_TOKENS = "128"
TINY = 1_000_000  # parameters, about
GROUPS = 16  # problems of a GRPO step
GRPO_FLAGS = (
    "--math.instruction", "", "--math.answer_style", "think",
    "--data.max_len", "256", "--rollout.max_new_tokens", MAX_NEW_TOKENS,
    "--rollout.batch_size", GROUPS, "--rollout.n_samples_per_prompt", "8",
    "--actor.adam.lr", "2e-4", "--actor.lr_scheduler", "constant_with_warmup", "--actor.entropy_coef", "0",
)  # fmt: skip
# Measured on two CPU cores.
SECONDS_WITHOUT_GRPO, SECONDS_PER_STEP = 275, 1.25
SAMPLING_FLAGS = ("--instruction", "", "--samples", "4", "--temperature", "1.0", "--max-tokens", MAX_NEW_TOKENS)
EVAL_FLAGS = (*SAMPLING_FLAGS, "--style", "think")


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Make a tiny Qwen and a synthetic problem set, curate it, distil a verbose teacher into the model "
        "(SFT), train it with GRPO through OpenRLHF, Ray, vLLM and DeepSpeed, compare it before and after, train a "
        "process reward model on its attempts, and let that choose among several.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--run-dir", "--output", type=Path, default=Path("runs/demo"), help="where its files go; must not exist"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the problems, the weights and the sampling")
    parser.add_argument("--steps", type=int, default=80, help="GRPO steps")
    parser.add_argument("--prm-problems", type=int, default=500, help="problems whose attempts the PRM learns from")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.run_dir.exists():
        raise UserError(f"--run-dir {args.run_dir} exists already; choose a new one or remove it")
    for flag, least in (("steps", 1), ("prm_problems", 1), ("seed", 0)):
        if getattr(args, flag) < least:
            raise UserError(f"--{flag.replace('_', '-')} {getattr(args, flag)}: give {least} or more")
    claim_directory("--run-dir", args.run_dir)
    print(announced(args.steps))
    device = find_device()
    try:
        with preloaded.shared(enter_environment(device, TINY) if device == "cpu" else {}):
            summary = chain(args.run_dir.absolute(), args.seed, args.steps, args.prm_problems)
    except subprocess.CalledProcessError as error:
        print(f"openrlhf-math demo: stage '{failed_command(error)}' failed, its message is above", file=sys.stderr)
        return 1
    show(summary, args.run_dir)
    return 0


def announced(steps: int) -> str:
    """What one is about to see, and for how long."""
    minutes = (SECONDS_WITHOUT_GRPO + steps * SECONDS_PER_STEP) / 60
    return (
        f"The demo takes about {minutes:.0f} minutes on two CPU cores. Ctrl-C stops it. Its 9 stages:\n"
        "a problem set and a teacher's traces, a tiny model that learns from them (SFT),\n"
        f"its accuracy before and after {steps} steps of GRPO, a process reward model, and\n"
        "votes over several attempts. It ends with two tables and a list of the files.\n"
    )


def chain(run_dir: Path, seed: int, steps: int, prm_problems: int) -> dict:
    """Run the stages. Returns the summary, which is also written to summary.json.

    Raises CalledProcessError if a stage fails.
    """
    start = time.time()
    world, sft, grpo = run_dir / "world", run_dir / "sft", run_dir / "grpo"
    heldout, numbers = world / "heldout.jsonl", count(1)

    def titled(name: str) -> str:
        return f"{next(numbers)}/9 {name}"

    teach_student(titled, run_dir, seed)
    before = evaluate(titled("evaluation before GRPO"), sft / "model", heldout, run_dir / "eval_before", seed)
    title = titled(f"GRPO: {steps} steps, no reference model, training and vLLM on the same device")
    train(title, sft / "model", world / "train.jsonl", steps, grpo, seed)
    after = evaluate(titled("evaluation after GRPO"), grpo / "model", heldout, run_dir / "eval_after", seed)
    title = titled("a process reward model learns from the model's attempts")
    train_prm(title, grpo / "model", world / "train.jsonl", run_dir / "prm", prm_problems, seed)
    title = titled("several attempts at each held-out problem, scored and put to the vote")
    reranked = rerank(title, grpo / "model", run_dir / "prm", heldout, run_dir / "rerank", seed)

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


def train(title: str, model: Path, problems: Path, steps: int, output: Path, seed: int, *flags) -> None:
    """GRPO for so many steps, each on problems that no step before had."""
    stage(
        title, "grpo", "--actor.model_name_or_path", model, "--data.prompt_dataset", problems,
        "--data.max_samples", GROUPS * steps, "--math.run_dir", output, "--train.seed", seed, *GRPO_FLAGS, *flags,
    )  # fmt: skip


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
