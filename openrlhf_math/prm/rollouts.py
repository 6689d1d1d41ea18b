"""Monte-Carlo labels: a model continues from every step, and the label is the share of correct answers."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from openrlhf_math.colocation.layout import enter_environment
from openrlhf_math.concurrency import gather
from openrlhf_math.data.problems import Problem
from openrlhf_math.data.prompts import chat
from openrlhf_math.modeling.model_folder import count_parameters
from openrlhf_math.prm.rows import Attempt, Rejected, Solution, read_attempts
from openrlhf_math.prm.sources import LabelSettings, Listener, RolloutSettings
from openrlhf_math.rerank.roles import Messages, RequestError, Sampler, Sampling
from openrlhf_math.rewards import Grade, GradingPool, RewardConfig
from openrlhf_math.runs.journal import Journal, open_journal
from openrlhf_math.seeds import derived_seed


def prefixes(response: str, steps: Sequence[str], separator: str) -> list[str]:
    """The text before each next step: `response` up to the end of step i and the space behind it.

    steps: of `response`, as `split_steps` finds them. The last is all of `response`. A closing of the thinking part
    belongs to none: whether to continue thinking is the model's choice.
    """
    between = re.compile(rf"(?:\s|</?think>|{re.escape(separator)})*")
    ends: list[int] = []
    end = 0
    for step in steps:
        start = _end(between, response, end)
        if not response.startswith(step, start):
            raise ValueError(f"the step {step!r:.40} is not at {start} of its response")
        end = start + len(step)
        ends.append(end)
    space = re.compile(r"\s*")
    return [response[: _end(space, response, end)] for end in ends[:-1]] + [response]


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Where what the pattern matches at `start` ends; `start` if it matches nothing."""
    found = pattern.match(text, start)
    return found.end() if found else start


def prefix_key(problem: str, gold: str, prefix: str) -> str:
    """A name for a beginning of a solution of a problem: attempts that begin alike share it."""
    return hashlib.sha256("\0".join((problem, gold, prefix)).encode("utf-8", "replace")).hexdigest()[:24]


def seed_of(seed: int, key: str, number: int) -> int:
    """Of a completion, the same in every run: 0 to 2^31 - 1."""
    return derived_seed(f"{seed} {key} {number}")


def label_of(reached: Sequence[bool | None], hard: bool) -> float | None:
    """A step's label from whether completions reached the gold answer, None for those that could not be graded.

    Math-Shepherd, https://arxiv.org/abs/2312.08935, equations 3 (hard: 1 if some completion does) and 4 (soft: the
    share that do). None if none could be graded.
    """
    decided = [one for one in reached if one is not None]
    if not decided:
        return None
    return float(any(decided)) if hard else sum(decided) / len(decided)


SOURCE = "monte-carlo"
WHOLE = -1  # in the journal, the number of the solution itself among the completions of its last step
# Nothing a label depends on.
FREE = ("device", "concurrency", "tensor_parallel", "max_context", "hard")


class Engine(Sampler, Protocol):
    """A sampler that can be ended."""

    def shutdown(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Beginning:
    """A beginning of a solution that is to be completed. key: see `prefix_key`."""

    key: str
    problem: str
    gold: str
    text: str
    whole: bool


def label_by_rollouts(
    settings: LabelSettings, listen: Listener, start: Callable[[RolloutSettings], Engine] | None = None
) -> Iterator[Solution | Rejected]:
    """Every attempt with its labels, in the order of the files. What the journal has is not asked again.

    start: makes the sampler; a vLLM engine in this process if None.
    Raises UserError if the model cannot be served, or the journal is another labelling's.
    """
    rollouts = settings.rollouts
    assert rollouts is not None  # as for this source
    found = [each for file in settings.files for each in read_attempts(file, settings.separator)]
    attempts = [each for each in found if isinstance(each, Attempt)]
    if not attempts:
        yield from (each for each in found if isinstance(each, Rejected))
        return
    of_attempt = {attempt.place: _beginnings(attempt, settings.separator) for attempt in attempts}
    wanted = list({beginning.key: beginning for each in of_attempt.values() for beginning in each}.values())
    with ExitStack() as stack:
        pool = stack.enter_context(closing(GradingPool(RewardConfig(style=rollouts.style))))
        with _journal(settings.output, rollouts) as journal:
            _grade_whole(wanted, journal, pool)
            wanted = [each for each in wanted if (each.key, WHOLE) not in journal]
            complete = all((each.key, number) in journal for each in wanted for number in range(rollouts.completions))
        # Not while the journal is open: vLLM's forked process would hold its lock for a moment after a kill.
        sampler = None if complete else (start or start_engine)(rollouts)
        if sampler:
            stack.callback(sampler.shutdown)
        journal = stack.enter_context(_journal(settings.output, rollouts))
        refused = asyncio.run(_draw(wanted, sampler, rollouts, journal, pool, listen)) if sampler else {}
        for each in found:
            if isinstance(each, Rejected):
                yield each
            else:
                yield _labelled(each, of_attempt[each.place], rollouts, journal, refused)


def _beginnings(attempt: Attempt, separator: str) -> list[Beginning]:
    texts = prefixes(attempt.response, attempt.steps, separator)
    return [
        Beginning(
            prefix_key(attempt.problem, attempt.gold, f"{'whole' if text is texts[-1] else 'part'}\0{text}"),
            attempt.problem, attempt.gold, text, text is texts[-1],
        )
        for text in texts
    ]  # fmt: skip


def _labelled(
    attempt: Attempt, beginnings: list[Beginning], settings: RolloutSettings, journal: Journal, refused: dict[str, str]
) -> Solution | Rejected:
    for beginning in beginnings:
        if beginning.key in refused:
            return Rejected(attempt.place, refused[beginning.key])
    labels = [label_of(_reached(beginning, settings, journal), settings.hard) for beginning in beginnings]
    if all(label is None for label in labels):
        return Rejected(attempt.place, "no completion of any of its steps could be graded")
    return Solution(attempt.problem, attempt.steps, labels, SOURCE)


def _reached(beginning: Beginning, settings: RolloutSettings, journal: Journal) -> list[bool | None]:
    """Whether its completions reached the gold answer."""
    if (beginning.key, WHOLE) in journal:
        return [journal.read(beginning.key, WHOLE)["reached"]]
    return [journal.read(beginning.key, number)["reached"] for number in range(settings.completions)]


def _grade_whole(beginnings: list[Beginning], journal: Journal, pool: GradingPool) -> None:
    """A solution with an answer is its own completion: nothing is left to write."""
    for beginning in beginnings:
        if beginning.whole and (beginning.key, WHOLE) not in journal:
            grade = pool.grade_now(beginning.text, beginning.gold, beginning.problem)
            if grade.answer is not None:
                journal.append(beginning.key, WHOLE, {"reached": _correct(grade)})


async def _draw(
    beginnings: list[Beginning],
    sampler: Sampler,
    settings: RolloutSettings,
    journal: Journal,
    pool: GradingPool,
    listen: Listener,
) -> dict[str, str]:
    """Draw the completions that the journal does not have, `concurrency` at a time, those of a beginning one after
    another: they share its computation. Returns why a beginning cannot be completed, by key."""
    names = [(each, number) for each in beginnings for number in range(settings.completions)]
    missing = [(each, number) for each, number in names if (each.key, number) not in journal]
    left, done = iter(missing), len(names) - len(missing)
    refused: dict[str, str] = {}
    listen(done, len(names))

    async def work() -> None:
        nonlocal done
        for beginning, number in left:
            if beginning.key not in refused:
                try:
                    await _draw_one(beginning, number, sampler, settings, journal, pool)
                except RequestError as error:
                    refused[beginning.key] = str(error)
            done += 1
            listen(done, len(names))

    await gather(work() for _ in range(min(settings.concurrency, len(missing))))
    return refused


async def _draw_one(
    beginning: Beginning,
    number: int,
    sampler: Sampler,
    settings: RolloutSettings,
    journal: Journal,
    pool: GradingPool,
) -> None:
    sampling = Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
        prefix=beginning.text,
        seed=seed_of(settings.seed, beginning.key, number),
    )
    completion = await sampler.complete(_messages(beginning, settings), sampling)
    grade = await pool.grade(beginning.text + completion.text, beginning.gold, beginning.problem)
    record = {"reached": _correct(grade), "tokens": completion.tokens, "text": completion.text}
    journal.append(beginning.key, number, record)


def _messages(beginning: Beginning, settings: RolloutSettings) -> Messages:
    return chat(Problem(beginning.problem, beginning.gold, "", 1), settings.instruction)


def _correct(grade: Grade) -> bool | None:
    return None if grade.outcome == "ungraded" else grade.outcome == "correct"


def start_engine(settings: RolloutSettings) -> Engine:
    """An engine in this process. Raises UserError if vLLM cannot serve the model."""
    enter_environment(settings.device, count_parameters(settings.model))

    from openrlhf_math.rerank.sampling_engine import SamplerSettings, SamplingEngine

    return SamplingEngine(
        SamplerSettings(
            settings.model,
            settings.device,
            tensor_parallel=settings.tensor_parallel,
            max_context=settings.max_context,
            max_concurrency=settings.concurrency,
        )
    )


def _journal(output: Path, settings: RolloutSettings) -> AbstractContextManager[Journal]:
    """The journal of `output`. Raises UserError if it holds completions of other settings."""
    identity = {name: value for name, value in asdict(settings).items() if name not in FREE}
    return closing(open_journal(output, identity))
