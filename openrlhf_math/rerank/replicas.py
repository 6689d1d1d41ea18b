"""Ray actors that all do the same, as one sampler or one scorer.

The actors are to be made with `max_restarts` and `max_task_retries`: Ray then starts one that was killed again and
repeats what it was asked, and a batch loses nothing.
"""

import asyncio
from collections.abc import Sequence

import ray

from openrlhf_math.rerank.aggregate import Scores
from openrlhf_math.rerank.roles import Completion, Messages, Sampling


class Replicas:
    """Sends each call to the actor with the fewest calls under way."""

    def __init__(self, actors: Sequence) -> None:
        self.actors = list(actors)
        self._under_way = [0] * len(self.actors)

    async def call(self, method: str, *args):
        """What the actor's method returns; an exception of the method is raised as it was raised there.

        Cancelling this cancels the call in the actor. Raises ray.exceptions.RayActorError if the actor is dead and
        stays so.
        """
        number = self._under_way.index(min(self._under_way))
        self._under_way[number] += 1
        reference = getattr(self.actors[number], method).remote(*args)
        try:
            return await reference
        except asyncio.CancelledError:
            ray.cancel(reference)
            raise
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        finally:
            self._under_way[number] -= 1


class RemoteSampler(Replicas):
    """See `roles.Sampler`."""

    async def complete(self, messages: Messages, sampling: Sampling) -> Completion:
        return await self.call("complete", messages, sampling)


class RemoteScorer(Replicas):
    """See `roles.Scorer`."""

    async def score(self, problem: str, responses: Sequence[str]) -> list[Scores]:
        return await self.call("score", problem, responses)
