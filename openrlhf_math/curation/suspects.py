"""Rows that resemble a benchmark problem and were kept: judged by a model, if given, and listed for review."""

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from openrlhf_math.curation.job import Job, Workplace
from openrlhf_math.runs.progress import Progress

# The rows that a judge dropped, uint64[rows], as the other tasks read them.
JUDGED = "judged.npy"
# The answers of the judge so far. They are kept when other flags of the judge restart its stage.
ANSWERS = "answers.jsonl"
# Suspects are read by people: more would not be read, and the list is held in memory.
MOST_SUSPECTS = 10_000


def judge_suspects(job: Job, suspects: dict[int, int], progress: Progress) -> dict | None:
    """Ask the judge about each suspect; those that are a benchmark problem are dropped. None without a judge.

    suspects: how many each piece has. Leaves the rows dropped in `JUDGED`, and the hits of each piece with their
    verdicts. Returns counts: pairs, same, different, unjudged, by_benchmark {benchmark: rows dropped}, pieces {index:
    rows dropped}. Raises UserError if the endpoint answers nothing.
    """
    workplace = job.workplace
    if job.settings.judge is None:
        workplace.write_array(workplace.root / JUDGED, np.empty(0, np.uint64))
        return None
    if (done := workplace.result("judge", 0)) is None:
        done = workplace.finish("judge", 0, _judge(job, suspects, progress))
    return done | {"pieces": {int(index): rows for index, rows in done["pieces"].items()}}


def _judge(job: Job, suspects: dict[int, int], progress: Progress) -> dict:
    from openrlhf_math.curation.judge import PairJudge  # its HTTP client takes a while to import

    counts: Counter[str] = Counter()
    by_benchmark: Counter[str] = Counter()
    pieces: Counter[int] = Counter()
    dropped: list[int] = []
    assert job.settings.judge is not None
    with PairJudge(job.settings.judge, job.workplace.root / ANSWERS) as judge:
        judge.ask(_pairs(job, list(suspects)), sum(suspects.values()), progress)
        for index in suspects:
            piece = job.pieces[index]
            with (
                job.workplace.replaced(job.workplace.file("judged", index, ".jsonl")) as path,
                path.open("w", encoding="utf-8") as lines,
            ):
                for line, hit in _hits(job.workplace, index):
                    if not hit["dropped"]:
                        found = judge.judgement(_texts(hit))
                        verdict = {True: "same", False: "different", None: "unjudged"}[found.same]
                        counts[verdict] += 1
                        hit |= {"dropped": bool(found.same), "judged": verdict}
                        hit |= {"unjudged_because": found.reason} if found.same is None else {}
                        line = json.dumps(hit, ensure_ascii=False) + "\n"
                        if found.same:
                            dropped.append(piece.first_id + hit["row"] - piece.first - 1)
                            by_benchmark[hit["benchmark"]] += 1
                            pieces[index] += 1
                    lines.write(line)
    job.workplace.write_array(job.workplace.root / JUDGED, np.array(dropped, np.uint64))
    return {
        "pairs": counts.total(),
        **{verdict: counts[verdict] for verdict in ("same", "different", "unjudged")},
        "by_benchmark": dict(sorted(by_benchmark.items())),
        "pieces": dict(pieces),
    }


def _hits(workplace: Workplace, index: int) -> Iterator[tuple[str, dict]]:
    """The lines on a piece's hits, as they are and read."""
    with open(workplace.file("contamination", index, ".jsonl"), encoding="utf-8") as lines:
        for line in lines:
            yield line, json.loads(line)


def _texts(hit: dict) -> tuple[str, str]:
    return hit["benchmark_problem"], hit["problem"]


def _pairs(job: Job, pieces: Sequence[int]) -> Iterator[tuple[str, str]]:
    for index in pieces:
        for _, hit in _hits(job.workplace, index):
            if not hit["dropped"]:
                yield _texts(hit)


def write_suspects(workplace: Workplace) -> None:
    """The hits of the report that were not dropped, the most alike first, for a person to read."""
    reports = workplace.output / "reports"
    with open(reports / "contamination.jsonl", encoding="utf-8") as lines:
        kept = (
            (one["share"], -number, line)
            for number, line in enumerate(lines)
            if not (one := json.loads(line))["dropped"]
        )
        most = heapq.nlargest(MOST_SUSPECTS, kept)
    with workplace.replaced(reports / "suspects.jsonl") as path:
        path.write_text("".join(line for *_, line in most), encoding="utf-8")
