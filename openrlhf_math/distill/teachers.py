"""Who can be asked for traces: what a teacher is asked, what it answers, and the registry.

A teacher is an async context manager with `workers`, `failed_tries` and `answer`, see `Teacher`. It is made by a
function of the run's settings, registered under a name or given by dotted path.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from openrlhf_math.distill.settings import DistillSettings
from openrlhf_math.endpoint.client import Client
from openrlhf_math.endpoint.reply import Answer
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
        """Raises Failure if this attempt cannot be had, UserError if none can."""


def workers_of(teacher: Teacher) -> int:
    """How many attempts may be under way at once; a user's teacher may have the former name, `lanes`."""
    workers: int = getattr(teacher, "workers", 0) or getattr(teacher, "lanes", 1)
    return workers


_REGISTRY: Registry[Callable[[DistillSettings], Teacher]] = Registry()
register_teacher = _REGISTRY.register  # of a function that makes a teacher of a run's settings


@register_teacher("endpoint")
def endpoint(settings: DistillSettings) -> Teacher:
    return Endpoint(settings)


@register_teacher("engine")
def engine(settings: DistillSettings) -> Teacher:
    from openrlhf_math.distill.engine import EngineTeacher

    return EngineTeacher(settings)


@register_teacher("recorded")
def recorded(settings: DistillSettings) -> Teacher:
    from openrlhf_math.distill.recorded import Recorded

    return Recorded(settings)


def find_teacher(name: str) -> Callable[[DistillSettings], Teacher]:
    """The maker of the teacher called `name`. Raises UserError if there is none."""
    return _REGISTRY.find("--teacher", name)


class Endpoint:
    """See `teachers.Teacher`."""

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
