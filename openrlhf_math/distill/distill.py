"""One distillation: ask the teacher, judge its traces, keep the good ones, write the result."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

from openrlhf_math.data.files import atomic_write, write_json
from openrlhf_math.distill.collect import SET_ASIDE, Verdicts, Watcher, collect
from openrlhf_math.distill.dataset import write_card, write_dataset
from openrlhf_math.distill.keep import Rule, is_unverified
from openrlhf_math.distill.questions import Task, Tasks
from openrlhf_math.distill.settings import DistillSettings
from openrlhf_math.distill.teachers import Teacher
from openrlhf_math.distill.yields import outcomes, yield_curve, yields
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.runs.journal import Journal, refused_if_unwritable
from openrlhf_math.runs.records import append_jsonl

DATA = "data/train.parquet"  # where `datasets` looks for a split named train


def distill(
    tasks: Tasks,
    settings: DistillSettings,
    rule: Rule,
    teacher: Teacher,
    journal: Journal,
    command: str,
    watcher: Watcher,
) -> dict:
    """Run it. Returns the report, which is also written to report.json; `watcher` is called for every attempt.

    Raises UserError if the teacher is unusable; what it wrote is then in the journal.
    """
    output, had, begun = settings.output, len(journal), time.time()
    try:
        verdicts = asyncio.run(_collect(tasks, settings, journal, teacher, watcher))
    finally:
        with contextlib.suppress(OSError):  # a full disk is reported already
            append_jsonl(output / "runs.jsonl", _run_record(journal, had, teacher, time.time() - begun))
    with refused_if_unwritable(output):
        kept = write_dataset(output / "dataset" / DATA, tasks.asked, verdicts, journal, settings, rule)
        report = make_report(tasks, settings, verdicts, kept)
        licences = {task.source: task.licence for task in tasks.asked}
        with atomic_write(output / "dataset" / "README.md") as file:
            verified = not is_unverified(rule)
            file.write(write_card(report, dict(sorted(licences.items())), command, verified))
        with atomic_write(output / "verdicts.jsonl") as file:
            file.writelines(json.dumps(row) + "\n" for row in _verdict_rows(tasks.asked, verdicts))
        write_json(output / "report.json", plain(report))
    return report


def make_report(tasks: Tasks, settings: DistillSettings, verdicts: Verdicts, kept: Counter[str]) -> dict:
    """Counts at each step and yields by source and difficulty."""
    ends = outcomes(verdicts)
    total = yields(tasks.asked, verdicts, kept, lambda task: "all")["all"]
    return {
        "counts": {
            "problems read": len(tasks.asked) + len(tasks.doubles) + len(tasks.unparsable),
            "doubles left out": len(tasks.doubles),
            "gold answer not parsable, left out": len(tasks.unparsable),
            "problems asked": len(tasks.asked),
            "attempts": total.attempts,
            "set aside without a reply": ends.get(SET_ASIDE, 0),
            "refused": total.refused,
            "correct": total.correct,
            "kept": total.kept,
            "problems with a kept trace": total.covered,
        },
        "outcomes": ends,
        "total": total,
        "by_source": yields(tasks.asked, verdicts, kept, lambda task: task.source),
        "by_difficulty": yields(tasks.asked, verdicts, kept, lambda task: task.difficulty or "not given"),
        "by_attempts": yield_curve(verdicts),
        "teacher": settings.identity() | settings.choice(),
    }


def plain(report: dict) -> dict:
    """The report as JSON can hold it."""
    groups = {name: {key: one.as_row() for key, one in report[name].items()} for name in ("by_source", "by_difficulty")}
    curve = [point.as_row() for point in report["by_attempts"]]
    return report | groups | {"total": report["total"].as_row(), "by_attempts": curve}


async def _collect(
    tasks: Tasks, settings: DistillSettings, journal: Journal, teacher: Teacher, watcher: Watcher
) -> Verdicts:
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(contextlib.closing(GradingPool(RewardConfig(style=settings.style))))
        with refused_if_unwritable(settings.output):
            rejects = stack.enter_context((settings.output / "rejects.jsonl").open("w", encoding="utf-8"))
            for problem in tasks.unparsable:
                reason = f"the gold answer {problem.answer!r:.80} cannot be parsed"
                print(json.dumps({"source": problem.source, "row": problem.row, "reason": reason}), file=rejects)
        async with teacher:
            return await collect(tasks.asked, settings, journal, teacher, pool, rejects, watcher)


def _run_record(journal: Journal, had: int, teacher: Teacher, seconds: float) -> dict:
    return {
        "had": had,
        "answered": len(journal) - had,
        "failed_tries": dict(teacher.failed_tries),
        "seconds": round(seconds, 3),
    }


def _verdict_rows(tasks: list[Task], verdicts: Verdicts) -> Iterator[dict]:
    for task in tasks:
        for attempt, verdict in enumerate(verdicts[task.key]):
            yield {
                "key": task.key,
                "attempt": attempt,
                "source": task.source,
                "row": task.problem.row,
                "difficulty": task.difficulty,
            } | asdict(verdict)
