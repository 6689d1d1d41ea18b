"""Collecting: ask what is missing, write it down, judge it."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TextIO

from openrlhf_math.data.prompts import chat
from openrlhf_math.distill.journal import Journal, told_if_unwritable
from openrlhf_math.distill.keep import refusal, trace
from openrlhf_math.distill.questions import Task
from openrlhf_math.distill.settings import DistillSettings
from openrlhf_math.distill.teachers import Failure, Question, Teacher
from openrlhf_math.rewards import GradingPool

CORRECT, WRONG, UNDECIDED, SET_ASIDE = "correct", "wrong", "undecided", "set aside"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an attempt. outcome: correct, wrong, undecided, set aside, or why its trace is refused.

    tokens: of the completion, None where unknown. reason: why it is undecided or set aside.
    """

    outcome: str
    tokens: int | None = None
    reason: str = ""


Verdicts = dict[tuple[str, int], Verdict]
# Told of every verdict, and whether it was asked just now or stood in the journal.
Listener = Callable[[Verdict, bool], None]


async def collect(
    tasks: list[Task],
    settings: DistillSettings,
    journal: Journal,
    teacher: Teacher,
    pool: GradingPool,
    rejects: TextIO,
    listen: Listener,
) -> Verdicts:
    """Judge what the journal has and ask `teacher` for the rest. Returns a verdict for every attempt of every task.

    What cannot be had is set aside: a line in `rejects`, asked again by the next run.
    Raises UserError if the teacher as a whole is of no use; the journal keeps what there is.
    """
    verdicts: Verdicts = {}
    names = [(task, attempt) for task in tasks for attempt in range(settings.attempts)]

    async def judge(task: Task, attempt: int, new: bool) -> None:
        verdicts[task.key, attempt] = await _judge(task, journal.read(task.key, attempt), settings.style, pool)
        listen(verdicts[task.key, attempt], new)

    async def ask(task: Task, attempt: int) -> None:
        try:
            reply = await teacher.answer(question(task, attempt, settings))
        except Failure as failure:
            verdicts[task.key, attempt] = Verdict(SET_ASIDE, reason=str(failure))
            with told_if_unwritable(settings.output):
                print(json.dumps(_reject(task, attempt, str(failure))), file=rejects, flush=True)
            listen(verdicts[task.key, attempt], True)
        else:
            journal.append(task.key, attempt, asdict(reply))
            await judge(task, attempt, new=True)

    had = [(task, attempt) for task, attempt in names if (task.key, attempt) in journal]
    await _in_lanes(iter(had), lambda task, attempt: judge(task, attempt, new=False), 4 * pool.config.workers)
    missing = ((task, attempt) for task, attempt in names if (task.key, attempt) not in journal)
    await _in_lanes(missing, ask, teacher.lanes)
    return verdicts


def question(task: Task, attempt: int, settings: DistillSettings) -> Question:
    """What the teacher is asked. Each attempt has a seed of its own, the same in every run."""
    name = f"{settings.seed} {task.key} {attempt}".encode()
    seed = None if settings.seed is None else int.from_bytes(hashlib.sha256(name).digest()[:4], "big") >> 1
    return Question(task.key, attempt, chat(task.problem, settings.instruction), seed)


def response_of(record: dict) -> str:
    """The trace of a journal's record."""
    return trace(record["content"], record["reasoning"])


async def _judge(task: Task, record: dict, style: str, pool: GradingPool) -> Verdict:
    response = response_of(record)
    refused = refusal(response, record["finish_reason"], style)
    if refused:
        return Verdict(refused, record["tokens"])
    grade = await pool.grade(response, task.problem.answer, task.problem.text)
    outcome = WRONG if grade.outcome == "format" else grade.outcome
    return Verdict(outcome, record["tokens"], grade.reason)


def _reject(task: Task, attempt: int, reason: str) -> dict:
    return {"key": task.key, "attempt": attempt, "source": task.source, "row": task.problem.row, "reason": reason}


async def _in_lanes(names: Iterator[tuple[Task, int]], work: Callable, lanes: int) -> None:
    """Do the work for every name, `lanes` of them at a time. The first exception ends all."""

    async def lane() -> None:
        for task, attempt in names:
            await work(task, attempt)

    running = [asyncio.ensure_future(lane()) for _ in range(lanes)]
    try:
        await asyncio.gather(*running)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
