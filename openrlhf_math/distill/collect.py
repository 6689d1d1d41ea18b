"""Collecting: request what is missing, record it, judge it.

A problem gets `attempts` at first, then twice as many in all, and again, until one is correct. These rounds depend on
the outcomes alone, not on time or order: a resumed run asks what an uninterrupted one would.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from openrlhf_math.concurrency import gather
from openrlhf_math.data.prompts import chat
from openrlhf_math.data.trace import trace
from openrlhf_math.distill.keep import refusal
from openrlhf_math.distill.questions import Task
from openrlhf_math.distill.settings import DistillSettings
from openrlhf_math.distill.teachers import Question, Teacher, workers_of
from openrlhf_math.endpoint.reply import Failure
from openrlhf_math.rewards import GradingPool
from openrlhf_math.runs.journal import Journal, refused_if_unwritable
from openrlhf_math.seeds import derived_seed

CORRECT, WRONG, UNGRADED, SET_ASIDE = "correct", "wrong", "ungraded", "set aside"
RECORD = ("content", "reasoning", "finish_reason", "tokens", "tool")  # of a reply in the journal
GRADED = (CORRECT, WRONG, UNGRADED)  # a trace without a fault of form


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an attempt. outcome: correct, wrong, ungraded, set aside, or why its trace is refused.

    tokens: of the completion, None where unknown. characters: of the trace. reason: why it is ungraded or set aside.
    """

    outcome: str
    tokens: int | None = None
    characters: int = 0
    reason: str = ""


Verdicts = dict[str, list[Verdict]]  # by the problem's key, of its attempts in their order


class Watcher(Protocol):
    """Is called as the work proceeds."""

    def judged(self, verdict: Verdict, new: bool) -> None:
        """new: asked just now, not read from the journal."""

    def more(self, attempts: int) -> None:
        """So many attempts are wanted that were not before."""


async def collect(
    tasks: list[Task],
    settings: DistillSettings,
    journal: Journal,
    teacher: Teacher,
    pool: GradingPool,
    rejects: TextIO,
    watcher: Watcher,
) -> Verdicts:
    """Judge what the journal has and ask `teacher` for the rest. Returns a verdict for every attempt of every task.

    A failed attempt becomes a line in `rejects`; the next run requests it again.
    Raises UserError if the teacher as a whole is unusable; the journal keeps what there is.
    """
    verdicts: dict[str, list[Verdict | None]] = {task.key: [None] * settings.attempts for task in tasks}
    missing: list[Item] = []

    async def from_journal(task: Task, attempt: int) -> Sequence[Item]:
        if (task.key, attempt) not in journal:
            missing.append((task, attempt))
            return ()
        return ended(task, attempt, await _judge(task, journal.read(task.key, attempt), settings, pool), new=False)

    async def from_teacher(task: Task, attempt: int) -> Sequence[Item]:
        if (task.key, attempt) in journal:
            return await from_journal(task, attempt)
        try:
            reply = await teacher.answer(question(task, attempt, settings))
        except Failure as failure:
            verdict = Verdict(SET_ASIDE, reason=str(failure))
            with refused_if_unwritable(settings.output):
                print(json.dumps(_reject(task, attempt, str(failure))), file=rejects, flush=True)
        else:
            record = {name: getattr(reply, name) for name in RECORD}
            journal.append(task.key, attempt, record)
            verdict = await _judge(task, record, settings, pool)
        return ended(task, attempt, verdict, new=True)

    def ended(task: Task, attempt: int, verdict: Verdict, new: bool) -> Sequence[Item]:
        had = verdicts[task.key]
        had[attempt] = verdict
        watcher.judged(verdict, new)
        if None in had:
            return ()
        outcomes = {one.outcome for one in had if one}
        further = next_round(len(had), settings.most_attempts, CORRECT in outcomes, SET_ASIDE in outcomes)
        if further:
            had.extend([None] * len(further))
            watcher.more(len(further))
        return [(task, number) for number in further]

    first = ((task, attempt) for task in tasks for attempt in range(settings.attempts))
    await work_through(first, from_journal, 4 * pool.config.workers)
    await work_through(missing, from_teacher, workers_of(teacher))
    return {key: [verdict for verdict in found if verdict] for key, found in verdicts.items()}


def question(task: Task, attempt: int, settings: DistillSettings) -> Question:
    """What the teacher is asked. Each attempt has another seed, the same in every run."""
    seed = None if settings.seed is None else derived_seed(f"{settings.seed} {task.key} {attempt}")
    return Question(task.key, attempt, chat(task.problem, settings.instruction), seed)


def response_of(record: dict, settings: DistillSettings) -> str:
    """The trace of a journal's record."""
    return trace(record["content"], record["reasoning"], settings.thinking_tags)


async def _judge(task: Task, record: dict, settings: DistillSettings, pool: GradingPool) -> Verdict:
    response = response_of(record, settings)
    refused = refusal(response, record["finish_reason"], settings.style)
    if refused:
        return Verdict(refused, record["tokens"], len(response))
    grade = await pool.grade(response, task.problem.answer, task.problem.text)
    outcome = WRONG if grade.outcome == "format" else grade.outcome
    return Verdict(outcome, record["tokens"], len(response), grade.reason)


def _reject(task: Task, attempt: int, reason: str) -> dict:
    return {"key": task.key, "attempt": attempt, "source": task.source, "row": task.problem.row, "reason": reason}


Item = tuple[Task, int]  # an attempt at a problem, counted from 0


def next_round(had: int, most: int, solved: bool, lost: bool) -> range:
    """The attempts that follow the first `had`, all of which have ended; empty if the problem is done.

    solved: whether one was correct. lost: whether one brought no reply. A lost attempt is asked again by the next run,
    and may be correct then: until that is known, the problem gets no further round.
    """
    return range(had, had if solved or lost else min(2 * had, most))


async def work_through(
    items: Iterable[Item], work: Callable[[Task, int], Awaitable[Sequence[Item]]], workers: int
) -> None:
    """Do the work for every item, `workers` of them at a time, and for the items that work returns, before others.

    The first exception ends all.
    """
    left: Iterator[Item] = iter(items)
    further: deque[Item] = deque()
    busy, news = 0, asyncio.Event()

    async def worker() -> None:
        nonlocal busy
        while True:
            while (item := further.popleft() if further else next(left, None)) is None:
                if not busy:
                    return
                news.clear()
                await news.wait()
            busy += 1
            more = await work(*item)
            busy -= 1
            further.extend(more)
            if more or not busy:
                news.set()

    await gather(worker() for _ in range(workers))
