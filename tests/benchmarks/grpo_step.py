"""A GRPO step against TRL's: whole processes, alternating, the same model, prompts, group size and completion limit.

    python tests/benchmarks/grpo_step.py --model MODEL --problems FILE.jsonl --trl VENV [--groups 16 ...]

VENV is made with the peer in it if it is not there (torch, trl 1.16.0). FILE has `question` or `problem`, and `answer`.
Prints, for each side: seconds a step (median over all steps but a process's first), samples a second, seconds to the
end of the first step, peak memory of all its processes (proportional set size); for ours the phases too; then TRL's
time divided by ours.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
PEER_PACKAGES = ("torch==2.13.0", "trl==1.16.0")


@dataclass
class Side:
    """What the processes of one side took."""

    name: str
    steps: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    tokens: list[float] = field(default_factory=list)
    phases: dict[str, list[float]] = field(default_factory=dict)


def main() -> None:
    args = parse()
    problems = read_problems(args.problems, args.steps * args.groups)
    peer_python = make_peer(args.trl)
    ours, trl = Side("openrlhf_math"), Side("TRL")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problems.jsonl"
        path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
        for number in range(args.rounds):
            run_ours(args, path, Path(folder) / f"ours{number}", ours)
            run_trl(args, path, Path(folder) / f"trl{number}", trl, peer_python)
    report(args, ours, trl)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    run_flags(parser)
    parser.add_argument("--trl", default="/tmp/trl-venv", type=Path, help="virtual environment of the peer")
    parser.add_argument("--trl-micro-batch", type=int, help="completions of one backward pass; default all")
    parser.add_argument("--trl-threads", type=int, help="OpenMP threads of the peer; default its own choice")
    return parser.parse_args()


def run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="directory of the model to train")
    parser.add_argument("--problems", required=True, type=Path)
    parser.add_argument("--groups", type=int, default=16, help="prompts a step")
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=128, help="completion limit")
    parser.add_argument("--max-len", type=int, default=256, help="prompt and completion")
    parser.add_argument("--instruction", default="")
    parser.add_argument(
        "--reward", choices=("answers", "letters"), default="answers",
        help="letters: the share of e, which leaves no group without signal, so that all completions are trained on",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=8, help="of a process")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each side")


def read_problems(path: Path, count: int) -> list[dict]:
    rows = [json.loads(line) for line in path.open()][:count]
    return [{"problem": row.get("problem") or row["question"], "answer": str(row["answer"])} for row in rows]


def make_peer(venv: Path) -> Path:
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEER_PACKAGES], check=True)
    return python


def ours_command(args: argparse.Namespace, problems: Path, run_dir: Path) -> list:
    command = [
        sys.executable, "-m", "openrlhf_math", "grpo",
        "--actor.model_name_or_path", args.model, "--data.prompt_dataset", problems, "--math.run_dir", run_dir,
        "--math.instruction", args.instruction, "--data.max_len", args.max_len,
        "--rollout.max_new_tokens", args.max_tokens, "--rollout.batch_size", args.groups,
        "--rollout.n_samples_per_prompt", args.group_size, "--actor.adam.lr", "1e-6",
        "--actor.lr_scheduler", "constant_with_warmup",
    ]  # fmt: skip
    if args.reward == "letters":
        command += ["--train.agent_func_path", HERE / "letters_agent.py"]
    return command


def run_ours(args: argparse.Namespace, problems: Path, run_dir: Path, side: Side, more: Sequence[str] = ()) -> None:
    observe([*ours_command(args, problems, run_dir), *more], side)
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    side.first.append(records[0]["seconds_since_start"])
    for record in records[1:]:
        side.steps.append(record["timing/step_total"])
        side.tokens.append(record["completion_length"])
        for name, value in record.items():
            if name.startswith("timing/") and name != "timing/step_total":
                side.phases.setdefault(name.removeprefix("timing/"), []).append(value)


def run_trl(args: argparse.Namespace, problems: Path, output: Path, side: Side, python: Path) -> None:
    samples = args.groups * args.group_size
    command = [
        python, HERE / "trl_peer.py", args.model, problems, output, "--groups", args.groups,
        "--group-size", args.group_size, "--max-tokens", args.max_tokens, "--instruction", args.instruction,
        "--micro-batch", args.trl_micro_batch or samples, "--reward", args.reward,
    ]  # fmt: skip
    environment = os.environ | ({"OMP_NUM_THREADS": str(args.trl_threads)} if args.trl_threads else {})
    observe(command, side, environment)
    records = [json.loads(line) for line in output.read_text().splitlines()]
    side.first.append(records[0]["seconds_since_start"])
    side.steps += [
        after["seconds_since_start"] - before["seconds_since_start"] for before, after in itertools.pairwise(records)
    ]
    side.tokens += [record["tokens"] for record in records[1:]]


def observe(command: list, side: Side, environment: dict | None = None) -> None:
    """Run to the end, keeping the highest memory of all its processes together."""
    process = subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    watcher = threading.Thread(target=watch_memory, args=(process, side), daemon=True)
    watcher.start()
    output, _ = process.communicate()
    watcher.join()
    if process.returncode:
        sys.exit(f"{side.name} failed:\n{output[-3000:]}")


def watch_memory(process: subprocess.Popen, side: Side) -> None:
    import psutil

    while process.poll() is None:
        total = 0
        try:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for member in family:
            try:
                total += member.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        side.peak_bytes = max(side.peak_bytes, total)
        time.sleep(2)  # reading it costs a fifth of a core for a gigabyte


def report(args: argparse.Namespace, ours: Side, trl: Side) -> None:
    from rich.console import Console
    from rich.table import Table

    samples = args.groups * args.group_size
    table = Table(title=f"{samples} completions of up to {args.max_tokens} tokens, {args.rounds} x {args.steps} steps")
    for column in ("", "s a step", "min to max", "samples/s", "tokens a completion", "first step, s", "peak GiB"):
        table.add_column(column, justify="right" if column else "left")
    for side in (ours, trl):
        step = statistics.median(side.steps)
        table.add_row(
            side.name, f"{step:.2f}", f"{min(side.steps):.2f} to {max(side.steps):.2f}", f"{samples / step:.1f}",
            f"{statistics.mean(side.tokens):.0f}", f"{statistics.median(side.first):.1f}",
            f"{side.peak_bytes / 2**30:.2f}",
        )  # fmt: skip
    console = Console(width=120)
    console.print(table)
    for name, values in ours.phases.items():
        console.print(f"  {name:<24} {statistics.median(values):7.3f} s")
    ratio = statistics.median(trl.steps) / statistics.median(ours.steps)
    start = statistics.median(trl.first) / statistics.median(ours.first)
    console.print(
        f"TRL / ours: {ratio:.2f} (step), {start:.2f} (first step), {trl.peak_bytes / ours.peak_bytes:.2f} (memory)"
    )


if __name__ == "__main__":
    main()
