"""Beside the peers at equal work, each pair in one run: prints the table of docs/benchmarks.md.

    python tests/benchmarks/peers.py --model runs/demo/sft/model --problems runs/demo/world/train.jsonl \
        [--texts gsm8k_train.jsonl] [--only step,padded,grading,duplicates] [--peers FOLDER]

- step: a GRPO step beside TRL 1.16 (`grpo_step.py`): seconds, first step, memory.
- padded: the same step through OpenRLHF's padded batches (`--math.shared_prefix off`), what our packing gains.
- grading: rows a second on one core and wrong verdicts, beside math-verify (`grading.py`).
- duplicates: planted copies and other problems (`rewording.py`), beside datatrove's MinHash as it is published.

TRL and datatrove get a virtual environment each in FOLDER, made if it is not there. A ratio is the peer's figure
divided by ours: above 1 is better here.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import curation
import grading
import grpo_step

HERE = Path(__file__).parent
MINHASH_PACKAGES = ("datatrove==0.10.1", "spacy==3.8.18", "tokenizers==0.23.3", "orjson==3.13.0", "xxhash==3.5.1")
NAMES = ("openrlhf_math", "math-verify")  # of the graders
Row = tuple[str, str, str, str]  # what, ours, the peer's, the ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    grpo_step.run_flags(parser)
    parser.add_argument("--only", default="step,padded,grading,duplicates", help="which, by comma")
    parser.add_argument("--peers", type=Path, default=Path("peers"), help="where their environments are (%(default)s)")
    parser.add_argument("--texts", type=Path, help="problems as JSONL for `duplicates`, with `question` or `problem`")
    parser.add_argument("--texts-count", type=int, default=500, help="of these, for `duplicates`")
    parser.add_argument("--grading-rows", type=int, default=1000)
    args = parser.parse_args()
    print(f"{machine()}\n\n| | openrlhf_math | peer | ratio |\n|---|---|---|---|", flush=True)
    tasks: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
        "step": step, "padded": padded, "grading": graded, "duplicates": duplicates,
    }  # fmt: skip
    for name in args.only.split(","):
        for row in tasks[name](args):
            print("| " + " | ".join(row) + " |", flush=True)


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {(names or [platform.processor()])[0]}, Python {platform.python_version()}"


def compared(what: str, ours: float, peer: float, unit: str) -> Row:
    return what, f"{ours:,.2f} {unit}", f"{peer:,.2f} {unit}", f"{peer / ours:.2f}"


def step(args: argparse.Namespace) -> list[Row]:
    args.trl_micro_batch = args.trl_threads = None
    python = grpo_step.make_peer(args.peers / "trl")
    ours, trl = grpo_step.Side("openrlhf_math"), grpo_step.Side("TRL")
    with prepared(args) as (problems, folder):
        for number in range(args.rounds):
            grpo_step.run_ours(args, problems, folder / f"ours{number}", ours)
            grpo_step.run_trl(args, problems, folder / f"trl{number}", trl, python)
    return of_sides("TRL 1.16", ours, trl)


def padded(args: argparse.Namespace) -> list[Row]:
    ours, upstream = grpo_step.Side("packed"), grpo_step.Side("padded")
    with prepared(args) as (problems, folder):
        for number in range(args.rounds):
            grpo_step.run_ours(args, problems, folder / f"packed{number}", ours)
            more = ("--math.shared_prefix", "off")
            grpo_step.run_ours(args, problems, folder / f"padded{number}", upstream, more)
    rows = of_sides("OpenRLHF's padded batches", ours, upstream)
    training = [statistics.median(side.phases["ppo_train"]) for side in (ours, upstream)]
    return [*rows, compared("training alone, beside OpenRLHF's padded batches", *training, "s")]


@contextlib.contextmanager
def prepared(args: argparse.Namespace):
    problems = grpo_step.read_problems(args.problems, args.steps * args.groups)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problems.jsonl"
        path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
        yield path, Path(folder)


def of_sides(peer: str, ours: grpo_step.Side, theirs: grpo_step.Side) -> list[Row]:
    return [
        compared(f"GRPO step, beside {peer}", statistics.median(ours.steps), statistics.median(theirs.steps), "s"),
        compared(f"first step, beside {peer}", statistics.median(ours.first), statistics.median(theirs.first), "s"),
        compared(f"peak memory, beside {peer}", ours.peak_bytes / 2**30, theirs.peak_bytes / 2**30, "GiB"),
    ]


def graded(args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    sets = {
        "GSM8K-like": grading.gsm8k_like(None, args.grading_rows),
        "MATH-like": grading.math_like(args.grading_rows),
    }
    labelled = [grading.Row(**row) for row in grading.labelled()]
    with contextlib.redirect_stdout(io.StringIO()):
        graders = grading.graders()
    for name, answers in sets.items():
        each = [1e3 * statistics.fmean(grading.timed(graders[name], answers)[0]) for name in NAMES]
        rows.append(compared(f"grading {name} answers, beside math-verify", *each, "ms each"))
    for kind, right in (("paid for a wrong answer", False), ("refused a right answer", True)):
        asked = [row for row in labelled if row.correct is right]
        wrong, peer = (str(sum(graders[name](row) != right for row in asked)) for name in NAMES)
        rows.append((f"{kind}, of {len(asked)} labelled pairs, beside math-verify", wrong, peer, ""))
    return rows


def duplicates(args: argparse.Namespace) -> list[Row]:
    python = args.peers / "minhash" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", args.peers / "minhash"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *MINHASH_PACKAGES], check=True)
    source = args.texts or args.problems
    problems = dict.fromkeys(row["problem"] for row in grpo_step.read_problems(source, 10**9))
    texts = [text for text in problems if any(map(str.isdigit, text))][: args.texts_count]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in" / "rows.jsonl"
        path.parent.mkdir()
        rows = curation.planted_within(texts, random.Random(0))
        curation.write_problems(path, [text for *_, text in rows])
        started = time.perf_counter()
        found = curation.dropped_within(path, Path(folder) / "ours")
        ours_seconds = time.perf_counter() - started
        work = Path(folder) / "peer"
        work.mkdir()
        output = subprocess.run(
            [python, HERE / "minhash_peer.py", path, work],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ).stdout
    peer = json.loads(output.splitlines()[-1])
    planted = {index for index, (_, way, _) in enumerate(rows) if way in curation.SAME_WAYS}
    table = []
    for name, sets in (("found", planted), ("dropped though they are other problems", set(range(len(rows))) - planted)):
        counts = [len(sets & set(one)) for one in (found, peer["dropped"])]
        words = [f"{count:,} of {len(sets):,}" for count in counts]
        table.append((f"duplicates {name}, beside datatrove's MinHash", *words, ""))
    table.append(compared("duplicates: the whole command", ours_seconds, peer["seconds"], "s"))
    return table


if __name__ == "__main__":
    main()
