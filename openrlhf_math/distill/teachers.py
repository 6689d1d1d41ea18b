"""Sources of traces: what a teacher is asked, what it answers, and the registry.

A teacher is an async context manager with `workers`, `failed_tries` and `answer`, see `Teacher`. It is made by a
function of the run's settings, registered under a name or given by dotted path. The teacher `recorded` asks no model:
it reads completions, such as a GRPO run's rollouts.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from openrlhf_math.data.problems import Problem, completion_rows
from openrlhf_math.distill.questions import key_of
from openrlhf_math.distill.settings import DistillSettings
from openrlhf_math.endpoint.client import Client
from openrlhf_math.endpoint.reply import Answer, Failure
from openrlhf_math.errors import UserError
from openrlhf_math.registry import Registry
from openrlhf_math.rerank.endpoint_sampler import body_of
from openrlhf_math.rerank.roles import Sampling


@dataclass(frozen=True, slots=True)
class Question:
    """One attempt at a problem. key: the problem's. seed: of the sampling; None leaves it to the teacher."""

    key: str
    attempt: int
    messages: list[dict[str, str]]
    seed: int | None


Reply = Answer  # the former name, for a user's own teacher


def sampling_of(question: Question, settings: DistillSettings) -> Sampling:
    """How the reply to a question is drawn."""
    drawn: dict[str, Any] = {"temperature": settings.temperature, "top_p": settings.top_p} | settings.drawn
    return Sampling(max_tokens=settings.max_tokens, seed=question.seed, **drawn)


class Teacher(Protocol):
    """workers: how many attempts may be under way at once. failed_tries: tries that failed, by kind."""

    workers: int
    failed_tries: Counter[str]

    async def __aenter__(self) -> "Teacher": ...

    async def __aexit__(self, *exception: object) -> None: ...

    async def answer(self, question: Question) -> Answer:
        """Raises Failure if this attempt fails, UserError if every attempt would."""


def workers_of(teacher: Teacher) -> int:
    """How many attempts may be under way at once; a user's teacher may have the former name, `lanes`."""
    workers: int = getattr(teacher, "workers", 0) or getattr(teacher, "lanes", 1)
    return workers


_REGISTRY: Registry[Callable[[DistillSettings], Teacher]] = Registry()
register_teacher = _REGISTRY.register  # of a class or a function that makes a teacher of a run's settings


def find_teacher(name: str) -> Callable[[DistillSettings], Teacher]:
    """The maker of the teacher called `name`. Raises UserError if there is none."""
    return _REGISTRY.find("--teacher", name)


@register_teacher("endpoint")
class Endpoint:
    """See `Teacher`."""

    def __init__(self, settings: DistillSettings) -> None:
        endpoint = settings.endpoint
        assert endpoint is not None  # as for this teacher
        tokens = endpoint.extra_body.get("max_completion_tokens")
        most = max(settings.max_tokens, tokens if isinstance(tokens, int) else 0)
        self._settings = settings
        self._client = Client(endpoint, most, "what it answered is kept, run the same command again")
        self.workers, self.failed_tries = self._client.workers, self._client.failed_tries

    async def __aenter__(self) -> "Endpoint":
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.__aexit__(*exception)

    async def answer(self, question: Question) -> Answer:
        """Ask until there is a reply. Raises Failure after the last try, UserError if no attempt can be answered."""
        return await self._client.ask(
            body_of(self._settings.model, question.messages, sampling_of(question, self._settings))
        )


@register_teacher("engine")
def engine(settings: DistillSettings) -> Teacher:
    from openrlhf_math.distill.engine import EngineTeacher

    return EngineTeacher(settings)


# How a completion ended, by its `truncated`; CSV has it as text.
_CUT: dict[bool | str | None, str] = {None: "stop", False: "stop", "false": "stop", True: "length", "true": "length"}


@register_teacher("recorded")
class Recorded:
    """See `Teacher`. `--model` names a file or folder of rows with `problem` and `response`, or `responses`.

    Attempt n at a problem is its n-th completion there. Raises UserError if the file cannot be read or used.
    """

    workers = 1

    def __init__(self, settings: DistillSettings) -> None:
        self.failed_tries: Counter[str] = Counter()
        self._replies: dict[str, list[Answer]] = {}
        for place, row in completion_rows(settings.model):
            problem = row.get("problem")
            if not isinstance(problem, str):
                raise UserError(
                    f"--model {settings.model}: {place} has no text `problem`; it is not a recorded completion"
                )
            replies = self._replies.setdefault(key_of(Problem(problem, "", "", 0)), [])
            replies += [_reply(place, *one) for one in _completions(settings.model, place, row)]

    async def __aenter__(self) -> "Recorded":
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    async def answer(self, question: Question) -> Answer:
        """Raises Failure if so many completions were not recorded."""
        replies = self._replies.get(question.key, [])
        if question.attempt >= len(replies):
            raise Failure(f"only {len(replies)} completions of this problem were recorded")
        return replies[question.attempt]


def _completions(model: str, place: str, row: dict) -> Iterable[tuple]:
    """Text, tokens and whether it was cut off, of each completion of a row."""
    if "responses" in row:
        texts = row["responses"]
        count = len(texts) if isinstance(texts, list) else 0
        tokens, truncated = (row.get(name) or [None] * count for name in ("tokens", "truncated"))
        lists = isinstance(tokens, list) and isinstance(truncated, list)
        if count and lists and len(tokens) == len(truncated) == count:
            return zip(texts, tokens, truncated, strict=True)
        raise UserError(f"--model {model}: {place} has no list of `responses` with as many `tokens` and `truncated`")
    return [(row.get("response"), row.get("tokens"), row.get("truncated"))]


def _reply(place: str, text: object, tokens: object, truncated: object) -> Answer:
    if not isinstance(text, str):
        raise UserError(f"--model: {place} has a response that is not text; correct or drop the row")
    flag = truncated.lower() if isinstance(truncated, str) else truncated
    cut = _CUT.get(flag, "") if flag is None or isinstance(flag, (bool, str)) else ""
    if not cut:
        raise UserError(f"--model: {place} has `truncated` {truncated!r:.40}, it must be true or false; correct it")
    return Answer(text, "", cut, tokens if isinstance(tokens, int) else None)
