"""The counts of a run."""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from openrlhf_math.curation.job import Job
from openrlhf_math.curation.plan import Plan

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
