"""A run: inputs into pieces, the four stages, the reports and the card.

The result is a function of the inputs and the settings. Which rows come first is fixed: those of `--against`, then the
sources in the order given, the files of each in the order of their names, the rows as they stand; of the same problem
the first is kept.
"""

import contextlib
import dataclasses
import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from openrlhf_math.curation import tasks
from openrlhf_math.curation.card import card, versions
from openrlhf_math.curation.decontaminate import BenchmarkProblem
from openrlhf_math.curation.inputs import Input, Piece, find_inputs, reader_of, rows_of, split
from openrlhf_math.curation.near_duplicates import BANDS
from openrlhf_math.curation.parallel import Workers
from openrlhf_math.curation.schema import BrokenRow
from openrlhf_math.curation.settings import CurationSettings
from openrlhf_math.curation.tasks import Job
from openrlhf_math.curation.workplace import Workplace
from openrlhf_math.errors import UserError

# Where a stage leaves its lines, and the report they are gathered in.
REPORTS = {
    "rejects": "rejects",
    "filtered": "filtered",
    "contamination": "contamination",
    "duplicate_lines": "duplicates",
}

# Told of each task that is done: the stage, how many are, how many there are.
Progress = Callable[[str, int, int], None]


@dataclass
class Plan:
    """The inputs as they were found. broken: files that cannot be read at all, as lines for the rejects file."""

    settings: CurationSettings
    files: list[Input] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    benchmark_pieces: list[Piece] = field(default_factory=list)
    broken: list[dict] = field(default_factory=list)

    def manifest(self) -> dict:
        """What another run must agree in to take this one up."""
        return {
            "settings": dataclasses.asdict(self.settings),
            "inputs": [
                {"role": one.role, "name": one.name, "file": one.file, "reader": one.reader, "digest": one.digest}
                for one in self.files
            ],
            "versions": versions(),
        }


def find(settings: CurationSettings) -> Plan:
    """Look at every input. Raises UserError for one that is missing, or that nothing tells how to read."""
    plan = Plan(settings)
    licences = dict(settings.licences)
    for role, specs in (
        ("against", settings.against),
        ("source", settings.sources),
        ("benchmark", settings.benchmarks),
    ):
        for spec in specs:
            for file in find_inputs(role, spec, settings.columns, licences):
                _add(plan, file)
    for role in ("source", "benchmark"):
        named = settings.sources if role == "source" else settings.benchmarks
        if named and not any(one.role == role and one.digest for one in plan.files):
            raise UserError(f"--{role} {named[0]}: none of its files can be read ({plan.broken[0]['reason']})")
    return plan


def _add(plan: Plan, file: Input) -> None:
    pieces = plan.benchmark_pieces if file.role == "benchmark" else plan.pieces
    try:
        file, found = split(file, len(pieces))
    except (pa.ArrowException, OSError) as error:
        reason = f"the file cannot be read ({str(error).splitlines()[0]:.200})"
        plan.broken.append({"source": file.name, "file": file.file, "row": None, "reason": reason, "beginning": ""})
        found = []
    plan.files.append(file)
    pieces += found


@dataclass
class Summary:
    """What a run did. steps: (what, rows left after it), in order; seconds: by step, of all workers together."""

    steps: list[tuple[str, int]]
    by_source: dict[str, dict[str, int]]
    contaminated: dict[str, int]
    other_numbers: int
    rejected: int
    broken_files: int
    rows: int
    written: int
    seconds: dict[str, float] = field(default_factory=dict)
    elapsed: float = 0.0

    def result(self) -> dict:
        """The part that does not depend on the machine."""
        whole = dataclasses.asdict(self)
        return {name: value for name, value in whole.items() if name not in ("seconds", "elapsed")}


def run(plan: Plan, output: Path, workers: Workers, progress: Progress = lambda *told: None) -> Summary:
    """Make the dataset in `output`, or go on with one that was cut short.

    Raises UserError if `output` holds anything else, or if no row is left.
    """
    begun = time.perf_counter()
    workplace = Workplace(output)
    _check(plan, workplace)
    with _alone(workplace):
        summary = _finished(workplace)
        if not summary:
            summary = _run(plan, workplace, workers, progress)
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
    before, now = json.loads(manifest.read_text(encoding="utf-8")), json.loads(json.dumps(plan.manifest()))
    if before != now:
        what = ", ".join(_differences(before, now))
        raise UserError(
            f"--output {workplace.output} holds a run with other {what}; choose a new directory, or remove this one"
        )
    workplace.root.mkdir(exist_ok=True)


def _differences(before: dict, now: dict) -> list[str]:
    differ = [name for name in now["settings"] if before["settings"].get(name) != now["settings"][name]]
    return differ or [name for name in ("inputs", "versions") if before.get(name) != now[name]]


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


def _run(plan: Plan, workplace: Workplace, workers: Workers, progress: Progress) -> Summary:
    job = Job(plan.settings, workplace.output.absolute(), tuple(plan.pieces), _write_benchmarks(plan, workplace))
    sources = [piece for piece in plan.pieces if piece.input.role == "source"]
    seconds: dict[str, float] = {}

    def stage(name: str, title: str, task, indices: list[int]) -> dict[int, dict]:
        since = time.perf_counter()
        results = {index: workplace.result(name, index) for index in indices}
        missing = [index for index in indices if results[index] is None]
        progress(title, len(indices) - len(missing), len(indices))
        for done, _ in enumerate(workers.run(task, missing), start=1):
            progress(title, len(indices) - len(missing) + done, len(indices))
        seconds[f"stage: {title}"] = time.perf_counter() - since
        return {index: results[index] or workplace.result(name, index) for index in indices}

    read = stage("read", "reading and filtering", partial(_read, job), [piece.index for piece in plan.pieces])
    keys = sum(one["kept"] for one in read.values()) * (BANDS + 1)
    ranges = max(1, -(-keys // tasks.KEYS_A_RANGE))
    stage("pair", "finding pairs", partial(_pair, job, ranges), list(range(ranges)))
    numbers = [piece.index for piece in sources]
    verified = stage("verify", "verifying pairs", partial(_verify, job, ranges), numbers)
    dropped = _gather_duplicates(job, numbers, plan.settings.keep_duplicates)
    left = {index: read[index]["kept"] - dropped.get(index, 0) for index in numbers}
    files = {index: number for number, index in enumerate(index for index in numbers if left[index])}
    summary = _summarise(plan, workplace, read, verified)
    if not files:
        _write_reports(plan, workplace, summary)
        raise UserError(
            f"no row of {summary.rows} is left ({_losses(summary)}); {workplace.output / 'reports'} tells of each"
        )
    stage("write", "writing", partial(_write, job, files), numbers)
    _write_reports(plan, workplace, summary)
    with workplace.replaced(workplace.output / "README.md") as path:
        path.write_text(card(plan.settings, plan.files, summary.result()), encoding="utf-8")
    for one in read.values():
        for step, taken in one["seconds"].items():
            seconds[step] = seconds.get(step, 0.0) + taken
    summary.seconds = seconds
    return summary


def _read(job: Job, index: int) -> dict:
    return tasks.read_piece(job, job.pieces[index])


def _pair(job: Job, ranges: int, index: int) -> dict:
    return tasks.pair_range(job, index, ranges)


def _verify(job: Job, ranges: int, index: int) -> dict:
    return tasks.verify_piece(job, job.pieces[index], ranges)


def _write(job: Job, files: dict[int, int], index: int) -> dict:
    return tasks.write_piece(job, job.pieces[index], files.get(index, len(files)), len(files))


def _write_benchmarks(plan: Plan, workplace: Workplace) -> str:
    """The benchmarks' problems in one file for the workers. Returns its digest. Broken rows go to the rejects."""
    digest = xxhash.xxh3_128()
    with workplace.replaced(tasks.benchmark_file(workplace.output)) as path, open(path, "w", encoding="utf-8") as file:
        for piece in plan.benchmark_pieces:
            read = reader_of(piece.input, plan.settings.columns)
            for number, raw in rows_of(piece):
                try:
                    problem = BenchmarkProblem(piece.input.name, number, tasks.read_row(read, raw).problem)
                except BrokenRow as error:
                    what = {"source": piece.input.name, "file": piece.input.file, "row": number, "reason": str(error)}
                    plan.broken.append(what | {"beginning": tasks.excerpt(raw)})
                    continue
                line = json.dumps(dataclasses.asdict(problem), ensure_ascii=False) + "\n"
                digest.update(line.encode())
                file.write(line)
    return digest.hexdigest()


def _gather_duplicates(job: Job, numbers: list[int], keep: bool) -> dict[int, int]:
    """Follow each duplicate to the row that stays, and lay both out for the writers. Returns {piece: duplicates}.

    A duplicate's own first row may itself be one. What this holds in memory is 32 bytes a duplicate, nothing a row.
    """
    root = job.workplace.root
    found = [np.load(job.workplace.file("duplicates", index, ".npy")) for index in numbers]
    found = np.concatenate(found) if found and not keep else np.empty(0, tasks.DUPLICATE)
    kept = found["first"].copy()
    while len(kept):
        at = np.minimum(np.searchsorted(found["row"], kept), len(kept) - 1)
        again = found["row"][at] == kept
        if not again.any():
            break
        kept[again] = kept[at[again]]
    everywhere = np.empty(len(found), [*tasks.DUPLICATE.descr, ("kept", np.uint64)])
    for name in tasks.DUPLICATE.names:
        everywhere[name] = found[name]
    everywhere["kept"] = kept
    order = np.lexsort((found["row"], kept))
    for name, array in (("duplicates", everywhere), ("kept_for", np.stack([kept, found["row"]], axis=1)[order])):
        job.workplace.write_array(root / f"{name}.npy", array)
    pieces, counts = np.unique(found["row"] >> np.uint64(32), return_counts=True)
    return dict(zip(pieces.tolist(), counts.tolist(), strict=True))


def _summarise(plan: Plan, workplace: Workplace, read: dict[int, dict], verified: dict[int, dict]) -> Summary:
    roles = {piece.index: piece.input for piece in plan.pieces}
    own = {index: one for index, one in read.items() if roles[index].role == "source"}
    duplicates = np.load(workplace.root / "duplicates.npy")
    against = np.array([index for index, file in roles.items() if file.role == "against"], np.uint64)
    is_against = np.isin(duplicates["kept"] >> np.uint64(32), against)
    exact = duplicates["similarity"] == 1
    rows = sum(one["rows"] for one in own.values())
    steps = [("rows read", rows)]

    def step(name: str, lost: int) -> None:
        steps.append((name, steps[-1][1] - lost))

    step("broken rows set aside", sum(one["rejected"] for one in own.values()))
    for name in plan.settings.filters:
        step(f"filter: {name}", sum(one["filtered"].get(name, 0) for one in own.values()))
    contaminated: dict[str, int] = {}
    for one in own.values():
        for name, count in one["contaminated"].items():
            contaminated[name] = contaminated.get(name, 0) + count
    if plan.settings.benchmarks:
        step("problems of benchmarks", sum(contaminated.values()))
    if plan.settings.against:
        step("in the sets of --against", int(is_against.sum()))
    step("exact duplicates", int((exact & ~is_against).sum()))
    step("near-duplicates", int((~exact & ~is_against).sum()))
    written = steps[-1][1]

    by_source: dict[str, dict[str, int]] = {}
    lost = dict(zip(*np.unique(duplicates["row"] >> np.uint64(32), return_counts=True), strict=True))
    for index, one in own.items():
        sums = by_source.setdefault(roles[index].name, {"read": 0, "written": 0})
        sums["read"] += one["rows"]
        sums["written"] += one["kept"] - int(lost.get(index, 0))
    return Summary(
        steps=steps,
        by_source=by_source,
        contaminated=dict(sorted(contaminated.items())),
        other_numbers=_spared(workplace, own),
        rejected=sum(one["rejected"] for one in read.values()) + sum(one["row"] is not None for one in plan.broken),
        broken_files=sum(one["row"] is None for one in plan.broken),
        rows=rows,
        written=written,
    )


def _spared(workplace: Workplace, own: dict[int, dict]) -> int:
    """Rows that share a benchmark's words but have other numbers, and so stay."""
    spared = 0
    for index in own:
        with open(workplace.file("contamination", index, ".jsonl"), encoding="utf-8") as file:
            spared += sum(not json.loads(line)["dropped"] for line in file)
    return spared


def _losses(summary: Summary) -> str:
    befores = [left for _, left in summary.steps]
    losses = [(name, before - left) for before, (name, left) in zip(befores, summary.steps[1:], strict=False)]
    return ", ".join(f"{name}: {lost}" for name, lost in losses if lost) or "there are none"


def _write_reports(plan: Plan, workplace: Workplace, summary: Summary) -> None:
    for stage, name in REPORTS.items():
        with workplace.replaced(workplace.output / "reports" / f"{name}.jsonl") as path, open(path, "wb") as whole:
            if name == "rejects":
                whole.writelines(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in plan.broken)
            for piece in plan.pieces:
                part = workplace.file(stage, piece.index, ".jsonl")
                if part.exists():
                    with open(part, "rb") as file:
                        shutil.copyfileobj(file, whole)
    workplace.write_json(workplace.output / "reports" / "counts.json", summary.result())
