"""The parts of tests/gpu/run.sh: each is a command with a time limit, and what is expected of its JSON."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
BENCHMARKS = HERE.parent / "benchmarks"
FAMILIES = ("qwen2", "mistral-window", "gemma2", "gpt-oss", "qwen3-moe", "deepseek-v3", "qwen3.5-text")
# Of families: largest differences in float32, and the least cosine between gradients of bfloat16 and of float32.
LOG_PROBS, GRADIENT, COSINE = 1e-4, 1e-4, 0.95
LOGPROB_GAP = 0.05  # nats a token between policy and engine, mean


@dataclass(frozen=True)
class Part:
    """command: writes the JSON that `--json` names. seconds: its limit. wrong: of that JSON, what is not as it has to
    be, or None."""

    name: str
    command: list
    seconds: int
    wrong: Callable[[list], str | None]


def main() -> int:
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    parts = [part for part in parts_of(args.device, args.small) if not args.part or part.name in args.part]
    report = {"machine": machine(args.device), "small": args.small, "parts": {}}
    texts = []
    for part in parts:
        print(f"{part.name} (at most {part.seconds} s)", flush=True)
        found, table = run(part, args.out)
        print(f"  {found['seconds']:.0f} s: {found['error'] or 'done'}", flush=True)
        report["parts"][part.name] = found
        texts.append(f"## {part.name}\n\n{found['error'] or ''}\n\n{table}\n")
        # After each part: what is there stays if this process is killed.
        (args.out / "gpu.json").write_text(json.dumps(report, indent=2) + "\n")
        title = "# " + ", ".join(f"{name} {value}" for name, value in report["machine"].items())
        (args.out / "gpu.md").write_text(title + "\n\n" + "\n".join(texts))
    print(f"{args.out / 'gpu.md'}, {args.out / 'gpu.json'}")
    return 1 if any(found["error"] for found in report["parts"].values()) else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/gpu/run.sh", description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=Path("runs/gpu"), metavar="OUT")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes")
    parser.add_argument("--part", nargs="+", metavar="NAME", help="only these")
    args = parser.parse_args()
    names = [part.name for part in parts_of(args.device, args.small)]
    unknown = [name for name in args.part or () if name not in names]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(names)}")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU; try --device cpu --small")
    return args


def parts_of(device: str, small: bool) -> list[Part]:
    lengths, shapes = ((64,), ("tiny",)) if small else ((128, 512, 1024, 2048, 4096, 8192, 16384), ())
    steps, model = ((64,), "tiny") if small else ((1024, 4096), "qwen2.5-1.5b")
    families = FAMILIES[:2] if small else FAMILIES
    long = [BENCHMARKS / "long_context.py", "--device", device, "--rounds", 1]
    of_shapes = ["--shape", *shapes] if shapes else []
    return [
        *(
            Part(
                f"families-{dtype}", [BENCHMARKS / "families.py", *families, "--dtype", dtype, "--device", device],
                60, FAMILY_CHECKS[dtype],
            )
            for dtype in ("fp32", "bf16")
        ),
        Part("long-context", [*long, *of_shapes, "--lengths", *lengths], 80, wrong_lengths),
        Part(
            "step", [*long, "--model", model, "--ways", "padded", "packed", "--lengths", *steps], 110, wrong_lengths
        ),
        Part("grpo", [HERE / "grpo.py", "--device", device, *(["--small"] if small else [])], 220, wrong_grpo),
    ]  # fmt: skip


def run(part: Part, out: Path) -> tuple[dict, str]:
    """`seconds`, `error` (or None) and `result` of a part, and its Markdown table."""
    result, log = out / f"{part.name}.json", out / f"{part.name}.log"
    result.unlink(missing_ok=True)
    start, error = time.perf_counter(), None
    with log.open("w") as lines:
        command = [sys.executable, *map(str, part.command), "--json", str(result)]
        # A separate session: at the limit its engines end with it.
        process = subprocess.Popen(command, stdout=lines, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(part.seconds)
            error = f"exit code {code}: {last_line(log)}" if code else None
        except subprocess.TimeoutExpired:
            error = f"not done after {part.seconds} s"
        finally:
            stop(process)
    found = json.loads(result.read_text()) if result.exists() else None
    if error is None:
        error = "no result" if found is None else part.wrong(found)
    return {"seconds": time.perf_counter() - start, "error": error, "result": found}, tables(log)


def tables(log: Path) -> str:
    """The tables in what a part printed, and their titles, which are bold."""
    shown = []
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("**"):
            shown += ["", line, ""]
        elif line.startswith("|"):
            shown.append(line)
    return "\n".join(shown)


def stop(process: subprocess.Popen) -> None:
    """End what a part has started and left: a run ends its engines itself if it is given the time."""
    for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 1)):
        until = time.monotonic() + seconds
        try:
            os.killpg(process.pid, number)
            while time.monotonic() < until:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.1)
        except ProcessLookupError:
            break
    process.wait()


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "no output"


def wrong_fp32(rows: list) -> str | None:
    bad = [
        row["family"]
        for row in rows
        if "error" in row or not (row["log_probs"] <= LOG_PROBS and row["gradient"] <= GRADIENT)
    ]
    return f"differ by more than {LOG_PROBS:g}: {', '.join(bad)}" if bad else None


def wrong_bf16(rows: list) -> str | None:
    bad = [row["family"] for row in rows if "error" in row or not row["cosine"] >= COSINE]
    return f"gradients differ: {', '.join(bad)}" if bad else None


FAMILY_CHECKS = {"fp32": wrong_fp32, "bf16": wrong_bf16}


def wrong_lengths(rows: list) -> str | None:
    bad = [str(row["length"]) for row in rows if "seconds" not in row["ways"]["packed"]]
    return f"the packed row does not run at {', '.join(bad)} tokens" if bad else None


def wrong_grpo(found: dict) -> str | None:
    gaps = [step["logprob_gap"] for step in found["steps"]]
    if not gaps:
        return "no step"
    return None if max(gaps) <= LOGPROB_GAP else f"policy and engine differ by {max(gaps):.3f} nats a token"


def machine(device: str) -> dict:
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda or "none"}


if __name__ == "__main__":
    sys.exit(main())
