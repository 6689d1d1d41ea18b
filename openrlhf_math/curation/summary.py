"""The counts of a run, and the data card: contents, sources, removed rows, the command that reproduces the dataset."""

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from openrlhf_math.curation.inputs import Input
from openrlhf_math.curation.job import Job
from openrlhf_math.curation.plan import Plan, versions
from openrlhf_math.curation.settings import CurationSettings
from openrlhf_math.curation.writing import COLUMNS

JUDGED_STEP = "judged: problems of benchmarks"


@dataclass
class Summary:
    """What a run did.

    steps: (what, rows left after it), in order. contaminated: rows dropped, by benchmark. benchmarks: how many problems
    each has. suspects: rows like a benchmark problem that stayed. judged: see `suspects.judge_suspects`, None without a
    judge. left: rows written of each piece. seconds: of each stage, and of each step of all workers together.
    """

    steps: list[tuple[str, int]]
    by_source: dict[str, dict[str, int]]
    contaminated: dict[str, int]
    benchmarks: dict[str, int]
    suspects: int
    judged: dict | None
    rejected: int
    broken_files: int
    rows: int
    written: int
    left: dict[int, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    elapsed: float = 0.0

    def result(self) -> dict:
        """The part that does not depend on the machine."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name not in ("left", "seconds", "elapsed")}


def summarise(
    plan: Plan, job: Job, read: dict[int, dict], kept: dict[int, int], benchmarks: dict[str, int], judged: dict | None
) -> Summary:
    """The counts. read: what reading each piece reported. kept: rows of each piece that are compared with one another.

    benchmarks: the problems of each.
    """
    pieces = [piece for piece in plan.pieces if piece.input.role == "source"]
    reports = [read[piece.index] for piece in pieces]
    duplicates = np.load(job.workplace.root / "duplicates.npy")
    against = [piece.index for piece in plan.pieces if piece.input.role == "against"]
    is_against = np.isin(duplicates["kept"] >> np.uint64(32), np.array(against, np.uint64))
    exact = duplicates["similarity"] == 1
    contaminated: Counter[str] = Counter()
    for one in reports:
        contaminated.update(one["contaminated"])

    steps = [("rows read", sum(one["rows"] for one in reports))]

    def step(name: str, lost: int) -> None:
        steps.append((name, steps[-1][1] - lost))

    step("broken rows set aside", sum(one["rejected"] for one in reports))
    for name in plan.settings.filters:
        step(f"filter: {name}", sum(one["filtered"].get(name, 0) for one in reports))
    if plan.settings.benchmarks:
        step("problems of benchmarks", contaminated.total())
    if judged:
        step(JUDGED_STEP, judged["same"])
    if plan.settings.against:
        step("in the sets of --against", int(is_against.sum()))
    step("exact duplicates", int((exact & ~is_against).sum()))
    step("near-duplicates", int((~exact & ~is_against).sum()))

    lost = dict(zip(*np.unique(duplicates["row"] >> np.uint64(32), return_counts=True), strict=True))
    left = {piece.index: kept[piece.index] - int(lost.get(piece.index, 0)) for piece in pieces}
    by_source: dict[str, dict[str, int]] = {}
    for piece in pieces:
        sums = by_source.setdefault(piece.input.name, {"read": 0, "written": 0})
        sums["read"] += read[piece.index]["rows"]
        sums["written"] += left[piece.index]
    return Summary(
        steps=steps,
        by_source=by_source,
        contaminated=dict(sorted(contaminated.items())),
        benchmarks=benchmarks,
        suspects=sum(one["suspects"] for one in reports) - (judged["same"] if judged else 0),
        judged=judged,
        rejected=sum(one["rejected"] for one in read.values()) + sum(one["row"] is not None for one in plan.broken),
        broken_files=sum(one["row"] is None for one in plan.broken),
        rows=steps[0][1],
        written=steps[-1][1],
        left=left,
    )


def losses(summary: Summary) -> str:
    """Which steps dropped how many, in words."""
    befores = [left for _, left in summary.steps]
    lost = [(name, before - left) for before, (name, left) in zip(befores, summary.steps[1:], strict=False)]
    return ", ".join(f"{name}: {count}" for name, count in lost if count) or "there are none"


_MEANING = {
    "problem": "the problem",
    "answer": "the gold answer, as the source writes it",
    "solution": "the source's solution",
    "source": "the set it is from",
    "origin": "where that set has it from",
    "kind": "`open`, `choice` or `proof`, as the source says",
    "subject": "as the source says",
    "difficulty": "on the source's own scale",
    "trace": "a chain of thought that leads to the answer",
    "file": "the file it is from",
    "row": "its row there, from 1",
    "also_in": "the places of the duplicates that were dropped for it",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def card(settings: CurationSettings, files: list[Input], counts: dict) -> str:
    """README.md of the dataset: a header that `datasets.load_dataset` reads, and a page for people."""
    sources = sorted((one for one in files if one.role == "source"), key=lambda one: one.name)
    licences: dict[str, list[str]] = {}
    for one in sources:  # several places may have one name
        licences.setdefault(one.name, []).append(one.licence)
    shared = {one.licence for one in sources}
    licence = shared.pop() if len(shared) == 1 and "not stated" not in shared else "other"
    size = next((name for most, name in _SIZES if counts["written"] < most), "n>10M")
    # Without `configs`, which datasets finds for itself: where a local folder has them, datasets 5.2 keeps what it read
    # under the folder's last name alone, and gives it for every other folder of that name.
    parts = [
        f"---\nlicense: {json.dumps(licence)}\ntask_categories:\n- question-answering\ntags:\n- math\n"
        f"size_categories:\n- {size}\n---\n",
        f"# {counts['written']:,} problems of mathematics\n",
        "Made with this command:\n",
        f"```sh\n{settings.command()}\n```\n",
        ", ".join(f"{name} {version}" for name, version in versions().items()) + ".\n",
        "## What is left after each step\n",
        _table(("step", "rows dropped", "rows left"), _steps(counts["steps"])),
        _notes(settings, counts),
        "## Sources\n",
        _table(
            ("source", "licence", "rows read", "rows in here"),
            [
                (name, ", ".join(dict.fromkeys(licences[name])), f"{one['read']:,}", f"{one['written']:,}")
                for name, one in counts["by_source"].items()
            ],
        ),
        _files(files),
        "## Columns\n",
        _table(("column", "type", "meaning"), [(one.name, _type(one.type), _MEANING[one.name]) for one in COLUMNS]),
    ]
    return "\n".join(part for part in parts if part)


def _notes(settings: CurationSettings, counts: dict) -> str:
    overlap = settings.overlap
    notes = ["Of rows with the same problem the first is here: by source in the order given, then by row."]
    if settings.benchmarks:
        notes.append(
            f"Benchmark problems are found as duplicates, and by shared runs of tokens that cover {overlap.share:.0%} "
            "of a benchmark problem. `reports/contamination.jsonl` has every hit with both texts. "
            f"Those with other numbers, or that ask for something else, stayed ({counts['suspects']:,}): "
            "`reports/suspects.jsonl`, the most alike first."
        )
        judged = counts["judged"]
        if settings.judge and judged:
            notes.append(
                f"{judged['pairs']:,} suspects were judged by {settings.judge.model}: {judged['same']:,} are a "
                f"benchmark problem and were dropped, {judged['different']:,} are another problem, "
                f"{judged['unjudged']:,} have no verdict; the last two kinds stayed."
            )
        notes.append(_table(*benchmark_table(counts["benchmarks"], counts["contaminated"], judged)))
    if counts["broken_files"]:
        notes.append(f"{counts['broken_files']:,} files could not be read at all: `reports/rejects.jsonl`.")
    notes.append(
        "`reports/` lists each row that is not here: `rejects.jsonl` (broken), `filtered.jsonl`, "
        "`contamination.jsonl`, `duplicates.jsonl`.\n"
    )
    return "\n\n".join(notes)


def benchmark_table(
    problems: dict[str, int], contaminated: dict[str, int], judged: dict | None
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The benchmarks with what was dropped for each: a head, and rows of cells."""
    head = ("benchmark", "problems", "rows dropped") + (("dropped by the judge",) if judged else ())
    rows = []
    for name, count in problems.items():
        by_judge = (f"{judged['by_benchmark'].get(name, 0):,}",) if judged else ()
        rows.append((name, f"{count:,}", f"{contaminated.get(name, 0):,}", *by_judge))
    return head, rows


def _files(files: list[Input]) -> str:
    rows = [(one.role, one.name, f"`{one.file}`", f"`{one.digest}`" if one.digest else "unreadable") for one in files]
    return "### Files read\n\n" + _table(("role", "set", "file", "xxh3-128"), rows)


def _steps(steps: list) -> list[tuple[str, str, str]]:
    befores = [steps[0][1], *(left for _, left in steps)]
    return [(name, f"{before - left:,}", f"{left:,}") for (name, left), before in zip(steps, befores, strict=False)]


def _table(head: tuple[str, ...], rows: list[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines) + "\n"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _type(kind: object) -> str:
    return str(kind).replace("item: ", "").replace("element: ", "")
