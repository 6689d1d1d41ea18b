"""Replicas: Ray actors that together act as one sampler or one scorer.

The actors are to be made with `max_restarts` and `max_task_retries`: Ray then starts one that was killed again and
repeats what it was asked, and a batch loses nothing.
"""

import asyncio
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray

from openrlhf_math.concurrency import gather, within
from openrlhf_math.rerank.aggregate import Scores
from openrlhf_math.rerank.roles import Completion, CutOff, Gone, Messages, Sampling, Unavailable

if TYPE_CHECKING:
    from ray.actor import ActorHandle

ANSWERS_WITHIN_SECONDS = 8.0
CUT_OFF_SECONDS = 3.0  # less than what was cancelled is waited for, see `concurrency`


class Replicas:
    """Sends each call to the actor with the fewest calls under way; one that is dead for good gets none."""

    role = "actors"

    def __init__(self, actors: Sequence["ActorHandle"]) -> None:
        self.actors = list(actors)
        self._under_way = [0] * len(self.actors)
        self._dead: set[int] = set()

    async def call(self, method: str, *args: object) -> Any:
        """What the actor's method returns; an exception of the method is raised as it was raised there.

        Cancelling this cancels the call in the actor. It waits as long as the call takes: the caller has the budget.
        Raises Unavailable if the actor does not come back, Gone if none is left.
        """
        while alive := [number for number in range(len(self.actors)) if number not in self._dead]:
            number = min(alive, key=self._under_way.__getitem__)
            self._under_way[number] += 1
            reference = getattr(self.actors[number], method).remote(*args)
            try:
                return await reference
            except asyncio.CancelledError:
                await self._cancelled(self.actors[number], reference, args)
                raise
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.ActorDiedError:
                self._dead.add(number)  # the next is asked
            except ray.exceptions.RayActorError as error:
                raise Unavailable(f"one of the {self.role} is starting again ({type(error).__name__})") from error
            finally:
                self._under_way[number] -= 1
        raise Gone(f"the {self.role} died, too often to be started again")

    async def _cancelled(self, actor: "ActorHandle", reference: "ray.ObjectRef", args: tuple) -> None:
        ray.cancel(reference)

    async def check(self) -> None:
        """Raises Unavailable unless one of them answers, Gone if all are dead for good."""
        answers = await gather(map(self._answers, range(len(self.actors))))
        if True in answers:
            return
        if len(self._dead) == len(self.actors):
            raise Gone(f"the {self.role} died, too often to be started again")
        raise Unavailable(f"none of the {self.role} answers; what died is starting again")

    async def _answers(self, number: int) -> bool:
        try:
            await within(ANSWERS_WITHIN_SECONDS, self.actors[number].ready.remote())
        except ray.exceptions.ActorDiedError:
            self._dead.add(number)
            return False
        except (TimeoutError, ray.exceptions.RayError):
            return False
        return True


class RemoteSampler(Replicas):
    """See `roles.Sampler`."""

    role = "samplers"

    async def complete(self, messages: Messages, sampling: Sampling) -> Completion:
        return await self.call("complete", messages, sampling, uuid.uuid4().hex)

    async def _cancelled(self, actor: "ActorHandle", reference: "ray.ObjectRef", args: tuple) -> None:
        """Raises CutOff, if the engine says how many tokens it has written."""

        async def cut() -> int:
            await actor.cut_off.remote(args[-1])
            return (await reference).tokens

        try:
            tokens = await within(CUT_OFF_SECONDS, cut())
        except ray.exceptions.TaskCancelledError:
            tokens = 0  # it had not begun
        except (TimeoutError, ray.exceptions.RayError):
            return
        finally:
            ray.cancel(reference)
        raise CutOff(tokens)


class RemoteScorer(Replicas):
    """See `roles.Scorer`."""

    role = "scorers"

    async def score(self, problem: str, responses: Sequence[str]) -> list[Scores]:
        return await self.call("score", problem, responses)


class Sleepers(Replicas):
    """All of some actors put to sleep, and awake again."""

    async def sleep(self) -> None:
        await gather(actor.sleep.remote() for actor in self.actors)

    async def wake_up(self) -> None:
        await gather(actor.wake_up.remote() for actor in self.actors)
