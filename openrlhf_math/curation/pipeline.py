"""A run: inputs into pieces, the stages, the reports and the card.

The result is a function of the inputs and the settings. Which rows come first is fixed: those of `--against`, then the
sources in the order given, the files of each in the order of their names, the rows in their order; of the same problem
the first is kept. Many tasks run through Ray Data, a few in this process.
"""

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from openrlhf_math.curation.alike import BANDS
from openrlhf_math.curation.job import Job, Workplace
from openrlhf_math.curation.matching import KEYS_A_RANGE, follow_duplicates, pair_range, verify_piece
from openrlhf_math.curation.plan import Benchmarks, Plan, read_benchmarks
from openrlhf_math.curation.reading import read_piece
from openrlhf_math.curation.summary import Summary, card, losses, summarise
from openrlhf_math.curation.suspects import ANSWERS, judge_suspects, write_suspects
from openrlhf_math.curation.writing import write_piece
from openrlhf_math.errors import UserError
from openrlhf_math.runs.progress import Progress, silent


class Workers:
    """Runs tasks. count: worker processes; 0 runs them here, None takes every core where there is more than one task.

    A task is a function of one picklable argument whose effect is a file, so it does not matter in which order or how
    often it runs.
    """

    def __init__(self, count: int | None) -> None:
        self.count = count
        self.started = False

    def run(self, task: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Any]:
        """Yields the argument of each task when it is done, in whatever order they end."""
        if self.count == 0 or self.count is None and len(arguments) < 2 and not self.started:
            for argument in arguments:
                task(argument)
                yield argument
        elif arguments:
            yield from self._run_with_ray(task, arguments)

    def _run_with_ray(self, task: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Any]:
        import ray.data

        self._start()
        data = ray.data.from_items([{"argument": one} for one in arguments], override_num_blocks=len(arguments))
        for done in data.map(_Task(task), compute=ray.data.TaskPoolStrategy(self.count)).iter_rows():
            yield done["argument"]

    def _start(self) -> None:
        import ray

        from openrlhf_math.colocation.cluster import start_or_join

        self.started = True
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of a coming change
        # What passes through the object store is file names and counts.
        local = {"num_cpus": self.count or os.cpu_count(), "object_store_memory": 80 << 20}
        start_or_join(local, log_to_driver=False, logging_level="ERROR")
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False

    def close(self) -> None:
        if self.started:
            import ray

            ray.shutdown()


class _Task:
    def __init__(self, task: Callable[[Any], Any]) -> None:
        self.task = task

    def __call__(self, row: dict) -> dict:
        self.task(row["argument"])
        return {"argument": row["argument"]}


# What stays where the judge of an unfinished run has changed: what was done before it, and its answers.
BEFORE_THE_JUDGE = frozenset(
    ("read", "rows", "texts", "keys", "rejects", "filtered", "contamination", "benchmarks.jsonl", ANSWERS, "lock")
)
# Where a stage leaves its lines, and the report they are gathered in.
REPORTS = {
    "rejects": "rejects",
    "filtered": "filtered",
    "contamination": "contamination",
    "duplicate_lines": "duplicates",
}


def run(plan: Plan, output: Path, workers: Workers, progress: Progress = silent) -> Summary:
    """Make the dataset in `output`, or finish one that was interrupted.

    Raises UserError for a benchmark that gives few problems, if `output` holds anything else, or if no row is left.
    """
    begun = time.perf_counter()
    workplace = Workplace(output)
    if plan.benchmark_pieces:
        progress("reading the benchmarks")
    benchmarks = read_benchmarks(plan)
    plan.broken += benchmarks.broken
    _check(plan, workplace)
    with _alone(workplace):
        _take_up(plan, workplace)
        summary = _finished(workplace)
        if not summary:
            summary = _run(plan, benchmarks, workplace, workers, progress)
            summary.elapsed = time.perf_counter() - begun
        shutil.rmtree(workplace.root, ignore_errors=True)
    return summary


def _check(plan: Plan, workplace: Workplace) -> None:
    """Refuse a directory that is not this run's, before anything is written."""
    manifest = workplace.output / "curate.json"
    if not manifest.exists():
        if workplace.output.exists() and any(one.name != ".work" for one in workplace.output.iterdir()):
            raise UserError(f"--output {workplace.output} holds other files; choose a new directory")
        workplace.root.mkdir(parents=True, exist_ok=True)
        workplace.write_json(manifest, plan.manifest())
        return
    try:
        before, now = json.loads(manifest.read_text(encoding="utf-8")), json.loads(json.dumps(plan.manifest()))
        intact = isinstance(before, dict) and isinstance(before.get("settings"), dict)
    except ValueError:
        intact = False
    if not intact:
        raise UserError(f"{manifest} is damaged; choose a new directory for --output, or remove this one")
    if before != now and not _may_change_judge(before, now, workplace):
        what = ", ".join(_differences(before, now))
        raise UserError(
            f"--output {workplace.output} holds a run with other {what}; choose a new directory, or remove this one"
        )
    workplace.root.mkdir(exist_ok=True)


def _differences(before: dict, now: dict) -> list[str]:
    differ = [name for name in now["settings"] if before["settings"].get(name) != now["settings"][name]]
    differ = differ or [name for name in ("inputs", "versions") if before.get(name) != now[name]]
    return differ or ["flags of another version of this command"]


def _may_change_judge(before: dict, now: dict, workplace: Workplace) -> bool:
    """Whether two runs differ in the judge alone, and the first is not finished."""
    known = "judge" in before["settings"] and not (workplace.output / "README.md").exists()
    return known and before | {"settings": before["settings"] | {"judge": now["settings"]["judge"]}} == now


def _take_up(plan: Plan, workplace: Workplace) -> None:
    """Make this run the directory's. Under another judge, its stage and all later ones start over."""
    manifest = workplace.output / "curate.json"
    now = json.loads(json.dumps(plan.manifest()))
    if json.loads(manifest.read_text(encoding="utf-8")) == now:
        return
    for path in workplace.root.iterdir():
        if path.name not in BEFORE_THE_JUDGE:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in ("data", "reports"):
        shutil.rmtree(workplace.output / name, ignore_errors=True)
    workplace.write_json(manifest, now)


@contextlib.contextmanager
def _alone(workplace: Workplace) -> Iterator[None]:
    with open(workplace.root / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"--output {workplace.output} is being worked on by another run; wait for it") from None
        yield


def _finished(workplace: Workplace) -> Summary | None:
    """The summary of a run that got to its end: the card is the last file written."""
    if not (workplace.output / "README.md").exists():
        return None
    return Summary(**json.loads((workplace.output / "reports" / "counts.json").read_text(encoding="utf-8")))


def _run(plan: Plan, benchmarks: Benchmarks, workplace: Workplace, workers: Workers, progress: Progress) -> Summary:
    job = Job(plan.settings, workplace.output.absolute(), tuple(plan.pieces))
    job = dataclasses.replace(job, benchmark_digest=_write_benchmarks(benchmarks, job))
    stages = Stages(workplace, workers, progress)
    sources = [piece.index for piece in plan.pieces if piece.input.role == "source"]

    rows = {piece.index: piece.rows for piece in plan.pieces}
    read = stages.run("read", "reading and filtering", partial(read_piece, job), rows)
    judged = judge_suspects(job, {index: read[index]["suspects"] for index in sources}, progress)
    dropped = judged["pieces"] if judged else {}
    kept = {index: one["kept"] - dropped.get(index, 0) for index, one in read.items()}
    if not plan.settings.keep_duplicates:
        total = sum(kept.values())
        ranges = max(1, -(-total * (BANDS + 1) // KEYS_A_RANGE))
        stages.run("pair", "finding pairs", partial(pair_range, job, ranges), _shares(total, ranges))
        rows = {index: kept[index] for index in sources}
        stages.run("verify", "verifying pairs", partial(verify_piece, job, ranges), rows)
        progress("following duplicates")
    follow_duplicates(job, [] if plan.settings.keep_duplicates else sources)
    summary = summarise(plan, job, read, kept, benchmarks.counts, judged)
    files = [index for index in sources if summary.left[index]]
    if not files:
        _write_reports(plan, workplace, summary)
        raise UserError(
            f"no row of {summary.rows} is left ({losses(summary)}); {workplace.output / 'reports'} lists each"
        )
    stages.run("write", "writing", partial(write_piece, job, files), {index: summary.left[index] for index in sources})
    progress("writing the reports")
    _write_reports(plan, workplace, summary)
    with workplace.replaced(workplace.output / "README.md") as path:
        path.write_text(card(plan.settings, plan.files, summary.result()), encoding="utf-8")
    summary.seconds = stages.seconds | _sums(one["seconds"] for one in read.values())
    return summary


class Stages:
    """Runs the tasks of a stage that are not done yet. seconds: that each stage took."""

    def __init__(self, workplace: Workplace, workers: Workers, progress: Progress) -> None:
        self.workplace, self.workers, self.progress = workplace, workers, progress
        self.seconds: dict[str, float] = {}

    def run(self, name: str, title: str, task: Callable[[int], dict], rows: dict[int, int]) -> dict[int, dict]:
        """What each task reported, now or in a run before. rows: how many rows each of them has, by its index."""
        since = time.perf_counter()
        missing = [index for index in rows if self.workplace.result(name, index) is None]
        total = sum(rows.values())
        done = total - sum(rows[index] for index in missing)
        self.progress(title, done, total)
        for index in self.workers.run(task, missing):
            done += rows[index]
            self.progress(title, done, total)
        self.seconds[f"stage: {title}"] = time.perf_counter() - since
        report: dict[int, dict] = {}
        for index in rows:
            result = self.workplace.result(name, index)
            assert result is not None, f"{name} {index} left no result"
            report[index] = result
        return report


def _shares(rows: int, ranges: int) -> dict[int, int]:
    """Rows in equal shares for ranges of keys, which hold keys of all rows."""
    return {index: rows * (index + 1) // ranges - rows * index // ranges for index in range(ranges)}


def _sums(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for part in parts:
        sums.update(part)
    return dict(sums)


def _write_benchmarks(benchmarks: Benchmarks, job: Job) -> str:
    """The benchmarks' problems in one file for the workers. Returns its digest."""
    with job.workplace.replaced(job.benchmark_file) as path:
        path.write_text(benchmarks.lines(), encoding="utf-8")
    return benchmarks.digest()


def _write_reports(plan: Plan, workplace: Workplace, summary: Summary) -> None:
    for stage, name in REPORTS.items():
        stage = "judged" if name == "contamination" and plan.settings.judge else stage
        with workplace.replaced(workplace.output / "reports" / f"{name}.jsonl") as path, open(path, "wb") as report:
            if name == "rejects":
                report.writelines(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in plan.broken)
            for piece in plan.pieces:
                part = workplace.file(stage, piece.index, ".jsonl")
                if part.exists():
                    with open(part, "rb") as file:
                        shutil.copyfileobj(file, report)
    write_suspects(workplace)
    workplace.write_json(workplace.output / "reports" / "counts.json", summary.result())
