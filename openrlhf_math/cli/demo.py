"""`openrlhf-math demo`: the whole chain on this machine, from random weights to a before/after table.

First a student learns a teacher's verbose chains of thought; GRPO follows; the last stages train a process reward
model, which then chooses among several attempts.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.cli.stages import command, command_line, failed_command, output_of, stage
from openrlhf_math.colocation import preloaded
from openrlhf_math.colocation.layout import enter_environment, find_device
from openrlhf_math.data.files import claim_directory
from openrlhf_math.errors import UserError, at_least
from openrlhf_math.runs.records import read_records

if TYPE_CHECKING:
    from rich.table import Table

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
SECONDS_WITHOUT_GRPO, SECONDS_PER_STEP = 212, 1.05
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
    parser.add_argument("--steps", type=int, default=60, help="GRPO steps")
    parser.add_argument("--prm-problems", type=int, default=500, help="problems whose attempts the PRM learns from")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.run_dir.exists():
        raise UserError(f"--run-dir {args.run_dir} exists already; choose a new one or remove it")
    at_least(1, args, "steps", "prm_problems")
    at_least(0, args, "seed")
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

    records = read_records(grpo / "metrics.jsonl").rows
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


def train(title: str, model: Path, problems: Path, steps: int, output: Path, seed: int, *flags: object) -> None:
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


PRM = "qwen2.5-math-prm"
ATTEMPT_FLAGS = ("--instruction", "", "--style", "think", "--temperature", "1.0", "--max-tokens", "128")
PRM_SAMPLES = 8
PRM_FLAGS = (
    "--data.max_len", "320", "--train.batch_size", "16", "--train.micro_batch_size", "16", "--train.max_epochs", "1",
    "--adam.lr", "2e-3",
)  # fmt: skip
ATTEMPTS = 8
SOLVE_FLAGS = (*ATTEMPT_FLAGS, "--max-context", "256", "--separator", "\\n", "--problem-concurrency", "16")
# What is shown of `vote`: a name for people, the rule, and what makes one score of step scores.
RULES = ((f"maj@{ATTEMPTS}", "majority"), (f"weighted@{ATTEMPTS}", "weighted"), (f"best-of-{ATTEMPTS}", "best_of_n"))
AGGREGATION = "product"  # every step is judged by itself: this is the probability that all are right


def train_prm(title: str, model: Path, training: Path, output: Path, problems: int, seed: int) -> None:
    """Train a PRM, `output`/run/model, on the model's attempts at so many training problems."""
    stage(
        title, "eval", "--model", model, "--benchmark", training, "--max-problems", problems,
        "--output", output / "attempts", "--seed", seed, *ATTEMPT_FLAGS, "--samples", PRM_SAMPLES,
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


def attempt(
    title: str, model: Path, judge: Path, problems: Path, attempts: int, output: Path, seed: int, scorer: str = PRM
) -> None:
    """Write so many attempts at each problem, with the scores of the model `judge`, to `output`/attempts.jsonl."""
    output.mkdir(parents=True)
    stage(
        title, "solve", "--model", model, "--scorer", scorer, "--scorer-model", judge,
        "--problems", problems, "--output", output / "attempts.jsonl", "--seed", seed,
        *SOLVE_FLAGS, "--attempts", attempts, "--no-early-stop",
    )  # fmt: skip


def rerank(title: str, model: Path, prm: Path, problems: Path, output: Path, seed: int) -> dict:
    """Solve the problems. Returns accuracy and interval of one attempt, of each rule, and of a perfect one."""
    attempt(title, model, prm / "run" / "model", problems, ATTEMPTS, output, seed)
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


DISTILL_FLAGS = ("--attempts", "1", "--max-tokens", "400", "--keep", "verified")


def sft_flags(batch: str, epochs: str, rate: str) -> tuple[str, ...]:
    return (
        "--math.instruction", "", "--data.max_len", "256",
        "--train.batch_size", batch, "--train.micro_batch_size", batch, "--train.max_epochs", epochs, "--adam.lr", rate,
    )  # fmt: skip


SFT_FLAGS = sft_flags("16", "2", "3e-3")
# Of the students of `experiments`, which leave more to improve. One pass ends while they learn to add: by seed and
# processor they solve 29 to 72% of the problems. After two passes they solve 66 to 71%.
SHORT_SFT_FLAGS = sft_flags("8", "1", "2e-3")


def teach_student(titled: Callable[[str], str], run_dir: Path, seed: int, flags: tuple[str, ...] = SFT_FLAGS) -> None:
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
        "--math.run_dir", sft, "--train.seed", seed, *flags,
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
