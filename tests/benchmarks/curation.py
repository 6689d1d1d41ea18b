r"""What `openrlhf-math curate` finds, how fast it is, what memory it takes, and whether it survives `kill -9`.

    python tests/benchmarks/curation.py planted                                # recall by kind, against 8-grams
    python tests/benchmarks/curation.py pairs                                  # pairs of problems, by hand
    python tests/benchmarks/curation.py reworded --problems gsm8k_train.jsonl  # precision at 20,000 rows
    python tests/benchmarks/curation.py memory --rows 100000 1000000           # rows a second, peak memory
    python tests/benchmarks/curation.py kills --times 10                       # the same bytes after ten kills

`--problems` are problem sets as JSONL. `planted` adds some of each to its own problems; of `reworded` half are GSM8K's
(question, answer), half are made from templates with LaTeX. Every number is printed as JSON.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from made_up_problems import synthetic, templated
from planted import pairs, planted
from rewording import DIGITS, OTHER, OTHER_VALUES, SAME, changed, embedded, opposite_word

# Duplicates and benchmark problems -----------------------------------------------------------------------------------


def word_problems(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return list(dict.fromkeys(json.loads(line)["question"].strip() for line in file))


def reworded(args: argparse.Namespace) -> dict:
    """Each of `--pairs` problems occurs three times: itself, written otherwise, and as another problem."""
    rng = random.Random(args.seed)
    real = word_problems(args.problems[0])
    rng.shuffle(real)
    real = [text for text in real if DIGITS.search(text)]
    half = min(args.pairs // 2, len(real) - args.benchmark_problems // 2)
    texts = real[:half] + templated(args.pairs - half, rng)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        return {
            "within": _within(texts, folder, rng),
            "benchmarks": _benchmarks(
                real[half : half + args.benchmark_problems // 2] + templated(args.benchmark_problems // 2, rng),
                folder,
                rng,
            ),
        }


SAME_WAYS = frozenset(way.__name__ for way in SAME) | {"around"}


def planted_within(texts: list[str], rng: random.Random) -> list[tuple[int, str, str]]:
    """Problems, each once as it is, once written otherwise and once changed into another: number, way, text."""
    rows = []
    for number, text in enumerate(texts):
        rows.append((number, "original", text))
        rows += [(number, *reversed(changed(text, ways, rng))) for ways in (SAME, OTHER)]
    originals, rest = [row for row in rows if row[1] == "original"], [row for row in rows if row[1] != "original"]
    rng.shuffle(rest)
    return originals + rest


def dropped_within(rows: Path, output: Path) -> dict[int, int]:
    """The rows that `curate` drops as duplicates, each with the row that it keeps."""
    _curate("--source", rows, "--filters", "", "--output", output)
    found = {}
    for line in (output / "reports/duplicates.jsonl").read_text().splitlines():
        one = json.loads(line)
        found[one["row"] - 1] = int(one["kept"].rpartition("row ")[2]) - 1
    return found


def _within(texts: list[str], folder: Path, rng: random.Random) -> dict:
    rows = planted_within(texts, rng)
    write_problems(folder / "rows.jsonl", [text for *_, text in rows])
    found = dropped_within(folder / "rows.jsonl", folder / "within")
    right = {row for row, kept in found.items() if rows[row][1] in SAME_WAYS and rows[kept][0] == rows[row][0]}
    planted_rows = [index for index, (_, way, _) in enumerate(rows) if way in SAME_WAYS]
    wrong = [index for index in found if index not in right]
    missed = [index for index in planted_rows if index not in right]
    _tell("wrongly dropped", [(rows[index][1], rows[index][2], rows[found[index]][2]) for index in wrong])
    _tell("missed", [(rows[index][1], rows[index][2], texts[rows[index][0]]) for index in missed])
    return _rates(len(right), len(planted_rows), len(found)) | {
        "hard_negatives": len(rows) - len(texts) - len(planted_rows),
        "recall_by_kind": _by_kind(rows, planted_rows, right),
        "wrongly_dropped_by_kind": dict(Counter(rows[index][1] for index in wrong)),
    }


def _benchmarks(texts: list[str], folder: Path, rng: random.Random) -> dict:
    """Of each problem: word for word, within other text, written otherwise; other problems; with one word changed."""
    write_problems(folder / "benchmark.jsonl", texts)
    rows = []
    for number, text in enumerate(texts):
        rows += [(number, "copied", text), (number, "embedded", embedded(text, rng))]
        rows += [(number, *reversed(changed(text, SAME, rng))) for _ in range(3)]
        rows += [(number, *reversed(changed(text, OTHER_VALUES, rng))) for _ in range(5)]
        one = opposite_word(text, rng)
        if DIGITS.findall(one) == DIGITS.findall(text):
            rows.append((number, "opposite_word", one))
    rng.shuffle(rows)
    write_problems(folder / "train.jsonl", [text for *_, text in rows])
    _curate(
        *("--source", folder / "train.jsonl", "--benchmark", f"held-out={folder / 'benchmark.jsonl'}"),
        *("--filters", "", "--keep-duplicates", "--output", folder / "clean"),
    )
    same = {way.__name__ for way in SAME} | {"around", "copied", "embedded"}
    hits = [json.loads(line) for line in (folder / "clean/reports/contamination.jsonl").read_text().splitlines()]
    found = {hit["row"] - 1 for hit in hits if hit["dropped"]}
    planted_rows = [index for index, (_, way, _) in enumerate(rows) if way in same]
    right = found & set(planted_rows)
    one_word = {index for index, (_, way, _) in enumerate(rows) if way == "opposite_word"}
    found_of_them, found = found & one_word, found - one_word  # these are dropped by intent: see decontaminate.py
    _tell("missed", [(rows[index][1], rows[index][2], "") for index in planted_rows if index not in right])
    _tell("wrongly dropped", [(rows[index][1], rows[index][2], "") for index in found - right])
    return _rates(len(right), len(planted_rows), len(found)) | {
        "hard_negatives": len(rows) - len(planted_rows) - len(one_word),
        "recall_by_kind": _by_kind(rows, planted_rows, right),
        "wrongly_dropped_by_kind": dict(Counter(rows[index][1] for index in found - right)),
        "one_word_changed_and_dropped": f"{len(found_of_them)}/{len(one_word)}",
        "hits_reported": len(hits),
    }


def _rates(right: int, planted_count: int, found: int) -> dict:
    return {
        "planted": planted_count,
        "recall": round(right / planted_count, 4),
        "precision": round(right / max(found, 1), 4),
    }


def _by_kind(rows, planted_rows, right) -> dict:
    kinds = Counter(rows[index][1] for index in planted_rows)
    return {kind: f"{sum(rows[i][1] == kind for i in right)}/{count}" for kind, count in sorted(kinds.items())}


def _tell(what: str, examples: list[tuple], most: int = 12) -> None:
    for kind, text, other in random.Random(0).sample(examples, min(most, len(examples))):
        print(f"{what} ({kind}): {text!r:.400}\n    {other!r:.400}", file=sys.stderr)


def write_problems(path: Path, texts: list[str]) -> None:
    """All with the same gold, so that the gold cannot tell one problem from the other."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"problem": text, "answer": "7"}) + "\n" for text in texts)


def _command(*arguments) -> list[str]:
    return [sys.executable, "-m", "openrlhf_math", "curate", *map(str, arguments)]


def _curate(*arguments) -> dict:
    result = subprocess.run(_command(*arguments, "--json"), capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(result.stderr[-2000:])
    return json.loads(result.stdout)


# Memory and speed ----------------------------------------------------------------------------------------------------


def memory(args: argparse.Namespace) -> list[dict]:
    """Peak of the proportional set size of the command and all its children, Ray's own processes among them."""
    shown = []
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "rows.jsonl"
            synthetic(source, rows)
            megabytes = source.stat().st_size >> 20
            output = Path(folder) / "out"
            synthetic(Path(folder) / "benchmark.jsonl", 1000, seed=1)
            command = _command("--source", source, "--output", output, "--workers", args.workers, "--json")
            command += ["--benchmark", f"some={Path(folder) / 'benchmark.jsonl'}"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            peaks = _Peaks(process.pid)
            out = json.loads(process.communicate()[0])
            peaks.stop()
        steps = {name: round(rows / taken) for name, taken in out["seconds"].items() if not name.startswith("stage")}
        stages = {name[7:]: round(taken, 1) for name, taken in out["seconds"].items() if name.startswith("stage")}
        shown.append(
            {
                "rows": rows,
                "input_MB": megabytes,
                "written": out["written"],
                "seconds": round(out["elapsed"], 1),
                "rows_a_second": round(rows / out["elapsed"]),
                "rows_a_second_of_one_worker": steps,
                "stage_seconds": stages,
                "processor_seconds": round(peaks.processor(), 1),
                "peak_MB_all": peaks.together,
                "peak_MB_one_process": peaks.one,
            }
        )
        for name in ("seconds", "processor_seconds"):  # 1: linear; the second does not depend on what else runs
            first, last = (one[name] / one["rows"] for one in (shown[0], shown[-1]))
            shown[-1][f"{name}_a_row_to_first"] = round(last / first, 2)
        print(json.dumps(shown[-1]), flush=True)
    return shown


class _Peaks:
    """Looks at a process and its children five times a second."""

    def __init__(self, pid: int) -> None:
        self.pid, self.together, self.one, self.over = pid, 0, 0, False
        self.used: dict[int, float] = {}
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        import psutil

        root = psutil.Process(self.pid)
        while not self.over:
            sizes = []
            for pid in [self.pid, *(child.pid for child in _children(root))]:
                try:
                    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                except OSError:
                    continue
                sizes.append(int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1]) >> 10)
                with contextlib.suppress(psutil.Error):
                    times = psutil.Process(pid).cpu_times()
                    self.used[pid] = times.user + times.system
            self.together, self.one = max(self.together, sum(sizes)), max(self.one, *sizes, 0)
            time.sleep(0.2)

    def processor(self) -> float:
        """Seconds of processor time of all of them, but for each one's last 0.2 s."""
        return sum(self.used.values())

    def stop(self) -> None:
        self.over = True
        self.thread.join()


def _children(root) -> list:
    import psutil

    try:
        return root.children(recursive=True)
    except psutil.Error:
        return []


# kill -9 -------------------------------------------------------------------------------------------------------------


def kills(args: argparse.Namespace) -> dict:
    """Runs are killed at random moments of their length and taken up again; what gets through is compared.

    It must have the bytes of an undisturbed run, in one process. A finished dataset is made again.
    """
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        source, benchmark = folder / "rows.jsonl", folder / "benchmark.jsonl"
        synthetic(source, args.kill_rows)
        shutil.copy(source, folder / "copy.jsonl")
        with source.open() as file, benchmark.open("w") as some:
            some.writelines(line for number, line in enumerate(file) if number % 500 == 0)
        common = ["--source", source, "--source", folder / "copy.jsonl", "--benchmark", f"planted={benchmark}"]
        _curate(*common, "--output", folder / "alone", "--workers", 0)
        expected = digest(folder / "alone")
        output = folder / "killed"
        commands = [_command(*common, "--output", output, "--workers", count) for count in (args.workers, 0)]
        killed, same, lengths = [], [], []

        def compare() -> None:
            same.append(digest(output) == expected)
            shutil.rmtree(output)

        for command in commands:
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            lengths.append(time.perf_counter() - begun)
            compare()
        while len(killed) < args.times:
            which = len(killed) % 2  # through Ray, and in one process
            process = subprocess.Popen(commands[which], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            after = rng.uniform(0, lengths[which])
            try:
                process.wait(after)
                compare()
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                workers = (args.workers, 0)[which]
                killed.append(f"--workers {workers} after {after:.1f} s, tasks done: {_tasks_done(output)}")
        subprocess.run(commands[0], check=True, capture_output=True)
        compare()
    return {
        "rows": 2 * args.kill_rows,
        "undisturbed_seconds": [round(length, 1) for length in lengths],
        "killed": killed,
        "datasets_finished": len(same),
        "byte_identical": sum(same),
    }


def _tasks_done(output: Path) -> str:
    stages = ("read", "pair", "verify", "write")
    return ", ".join(f"{stage} {len(list((output / '.work' / stage).glob('*.json')))}" for stage in stages)


def digest(folder: Path) -> dict[str, str]:
    """The files of a dataset and what is in them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and ".work" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("planted", "pairs", "reworded", "memory", "kills"))
    parser.add_argument("--problems", type=Path, nargs="+", default=[], help="problem sets as JSONL")
    parser.add_argument("--of-each-file", type=int, default=100, help="problems of a set that `planted` takes")
    parser.add_argument("--rows-a-kind", type=int, default=60, help="of `planted`, at most")
    parser.add_argument("--kinds", default="", help="of `planted`, by comma; all without it")
    parser.add_argument("--same-gold", action="store_true", help="of `planted`: duplicates among equal golds, too")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="of `planted`: rows judged wrongly, a kind")
    parser.add_argument("--result", type=Path, help="of `planted`: the table as JSON")
    pairs_file = Path(__file__).parent / "planted_pairs.jsonl"
    parser.add_argument(
        "--pairs-file", type=Path, default=pairs_file, help="of `pairs`: a, b, same, gold_a, gold_b, kind"
    )
    parser.add_argument("--pairs", type=int, default=10_000, help="problems that stand three times")
    parser.add_argument("--benchmark-problems", type=int, default=2_000)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--kill-rows", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    result = {"planted": planted, "pairs": pairs, "reworded": reworded, "memory": memory, "kills": kills}[args.what](
        args
    )
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
