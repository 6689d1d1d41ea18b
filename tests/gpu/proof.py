"""The parts of tests/gpu/run.sh, each a command with a time limit of its own: one JSON and one Markdown page."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAMILIES = ("qwen2", "mistral-window", "gemma2", "qwen3-moe", "deepseek-v3", "gpt-oss")
STUDENT = """
from pathlib import Path
from openrlhf_math.cli.demo_student import teach_student
teach_student(lambda name: name, Path({folder!r}), 0)
"""
SECONDS_IN_ALL = 540


@dataclass
class Part:
    """title: of its table. command: after `python`. seconds: its limit. table: Markdown, from what it printed."""

    title: str
    command: list[str]
    seconds: float
    table: Callable[[str], str] = field(repr=False)


@dataclass
class Result:
    title: str
    command: str
    seconds: float
    failed: str | None
    table: str


def markdown_lines(printed: str) -> str:
    return "\n".join(line for line in printed.splitlines() if line.startswith("|"))


def parts(out: Path, device: str, small: bool) -> list[Part]:
    families = ["tests/benchmarks/families.py", *FAMILIES, "--device", device]
    long = ["tests/benchmarks/long_context.py", "--device", device]
    lengths = ["128", "256"] if small else ["512", "2048", "8192", "16384"]
    steps = ["128"] if small else ["1024", "4096"]
    shape = ["tiny"] if small else ["qwen2.5-1.5b"]
    rounds = ["--rounds", "1"] if small else []
    student, grpo = out / "student", out / "grpo"
    grpo_steps = 2 if small else 10
    run = [
        "-m", "openrlhf_math", "grpo", "--actor.model_name_or_path", str(student / "sft" / "model"),
        "--data.prompt_dataset", str(student / "world" / "train.jsonl"), "--data.max_samples", str(16 * grpo_steps),
        "--math.run_dir", str(grpo), "--math.instruction", "", "--math.answer_style", "think", "--math.device", device,
        "--data.max_len", "256", "--rollout.max_new_tokens", "128", "--actor.adam.lr", "2e-4",
    ]  # fmt: skip
    return [
        Part("Families, float32", families, 90, markdown_lines),
        Part("Families, bfloat16", [*families, "--dtype", "bf16"], 90, markdown_lines),
        Part("Attention by length", [*long, "--shape", *shape, "--lengths", *lengths, *rounds], 120, markdown_lines),
        Part(
            "A training step with and without prefix sharing, 8 completions",
            [*long, "--model", *shape, "--layers", "2" if small else "4", "--lengths", *steps, *rounds],
            120, markdown_lines,
        ),
        Part("The demo's student", ["-c", STUDENT.format(folder=str(student))], 150, lambda printed: ""),
        Part("GRPO of the demo's student, CUDA graphs on", run, 150, lambda _: grpo_table(grpo / "metrics.jsonl")),
    ]  # fmt: skip


def grpo_table(metrics: Path) -> str:
    names = ("step", "accuracy", "logprob_gap", "grad_norm", "timing/step_total", "memory/peak_gib")
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    cells = [" | ".join(f"{row.get(name, float('nan')):.4g}" for name in names) for row in rows]
    return "\n".join([f"| {' | '.join(names)} |", "|" + "---:|" * len(names), *(f"| {row} |" for row in cells)])


def run_part(part: Part, left: float) -> Result:
    start, failed, table = time.monotonic(), None, ""
    limit = min(part.seconds, left)
    try:
        if limit < 5:
            raise TimeoutError(f"no time is left of {SECONDS_IN_ALL} s")
        done = run_with_children([sys.executable, *part.command], limit)
        if done.returncode:
            failed = f"exit code {done.returncode}: {(done.stderr or done.stdout)[-2000:]}"
        else:
            table = part.table(done.stdout)
            if wrong := [line for line in table.splitlines() if "Error" in line or "WrongPath" in line]:
                failed = wrong[0]
    except (subprocess.TimeoutExpired, TimeoutError, OSError) as error:
        failed = f"{type(error).__name__}: {error}"[:2000]
    command = " ".join(["python", *part.command])
    return Result(part.title, command, round(time.monotonic() - start, 1), failed, table)


def run_with_children(command: list[str], limit: float) -> subprocess.CompletedProcess:
    """Raises TimeoutExpired after `limit` seconds; nothing that the command started is then left."""
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def machine(device: str) -> dict:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("tests/gpu/run.sh: torch finds no CUDA device; with --device cpu --small it tries the script alone")
    card = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    return {"card": card, "torch": torch.__version__, "cuda": torch.version.cuda}


def report(where: dict, results: list[Result]) -> str:
    head = f"# {where['card']}, torch {where['torch']}\n"
    blocks = [
        f"\n## {one.title}\n\n`{one.command}`, {one.seconds} s\n\n{one.table or one.failed or 'done'}\n"
        for one in results
    ]
    return head + "".join(blocks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes, to try the script on a CPU")
    parser.add_argument("--only", type=int, nargs="+", help="some parts, by number from 1")
    args = parser.parse_args()
    out = args.out.absolute()
    if (out / "proof.json").exists():
        sys.exit(f"tests/gpu/run.sh: {out} holds another proof; choose a new folder")
    where = machine(args.device)
    out.mkdir(parents=True, exist_ok=True)
    results, start = [], time.monotonic()
    chosen = parts(out, args.device, args.small)
    for number, part in enumerate(chosen, start=1):
        if args.only and number not in args.only:
            continue
        print(f"{number}/{len(chosen)} {part.title}", flush=True)
        results.append(run_part(part, SECONDS_IN_ALL - (time.monotonic() - start)))
        print(results[-1].table or results[-1].failed or "done", flush=True)
        (out / "proof.json").write_text(json.dumps({**where, "parts": [asdict(one) for one in results]}, indent=2))
        (out / "proof.md").write_text(report(where, results))
    return int(any(one.failed for one in results))


if __name__ == "__main__":
    sys.exit(main())
