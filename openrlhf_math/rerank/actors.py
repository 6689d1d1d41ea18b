"""Ray actors as one sampler or one scorer: replicas that share the work, and a pair that shares a device.

The actors are to be made with `max_restarts` and `max_task_retries`: Ray then starts one that was killed again and
repeats what it was asked, and a batch loses nothing.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import ray

from openrlhf_math.concurrency import gather, within
from openrlhf_math.rerank.aggregate import Scores
from openrlhf_math.rerank.roles import Completion, CutOff, Gone, Messages, Sampler, Sampling, Scorer, Unavailable

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

    def __init__(self, actors: Sequence["ActorHandle"], max_concurrency: int) -> None:
        """max_concurrency: completions under way at once in one engine. It is asked for twice as many, so that the next
        are there when some end; the others wait here, where to cancel one takes no call of an actor."""
        super().__init__(actors)
        self._places = asyncio.Semaphore(2 * max_concurrency * len(self.actors))

    async def complete(self, messages: Messages, sampling: Sampling) -> Completion:
        async with self._places:
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


SWITCH_SECONDS = 300.0  # for an engine to leave the device, or to come back


class Sleeper(Protocol):
    """An engine, or several, that can leave the device."""

    async def sleep(self) -> None: ...

    async def wake_up(self) -> None: ...


class SharedDevice:
    """Gives the device to one side at a time; requests of the other wait until those under way are done.

    A waiting side is next: later requests for the active side queue behind it. So attempts are generated
    together, then scored together.

    sides: the engines that share it. awake: which of them are awake at first. switches, seconds: changes so far and
    their duration.
    """

    def __init__(self, sides: Sequence[Sleeper], awake: Iterable[int]) -> None:
        self._sides = list(sides)
        self._awake = set(awake)
        self._holder: int | None = None
        self._at_work = 0
        self._waiting = [0] * len(self._sides)
        self._changed = asyncio.Condition()
        self._switching: asyncio.Task | None = None
        self._fresh = False  # whether the engine has done no work since the change
        self._stuck = False
        self.switches, self.seconds = 0, 0.0

    async def check(self) -> None:
        """Raises Gone if a change has hung: then it is unknown which engine is awake."""
        if self._stuck:
            raise Gone(f"an engine neither slept nor woke within {SWITCH_SECONDS:.0f} s")

    @contextlib.asynccontextmanager
    async def turn(self, side: int) -> AsyncIterator[None]:
        """The device is this side's while the block runs, with others of the side. Raises what a change raises."""
        async with self._changed:
            self._waiting[side] += 1
            try:
                await self._enter(side)
                self._at_work += 1
            finally:
                self._waiting[side] -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            async with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    async def _enter(self, side: int) -> None:
        """A change is a separate task, so cancelling the caller does not interrupt it."""
        mine = None
        while True:
            await self.check()
            if mine and mine.done():
                mine.result()
            if self._may_enter(side):
                if self._holder == side:
                    self._fresh = False
                    return
                mine = self._switching = asyncio.create_task(self._switch(side))
            await self._changed.wait()

    def _may_enter(self, side: int) -> bool:
        """Enter, or have the device changed to this side."""
        if self._switching:
            return False
        if self._holder == side:
            return self._fresh or not any(self._waiting[other] for other in self._others(side))
        fresh_for = self._holder if self._fresh else None
        return self._at_work == 0 and not (fresh_for is not None and self._waiting[fresh_for])

    def _others(self, side: int) -> list[int]:
        return [other for other in range(len(self._sides)) if other != side]

    async def _switch(self, side: int) -> None:
        started = time.perf_counter()
        try:
            for other in self._others(side):
                if other in self._awake:
                    await within(SWITCH_SECONDS, self._sides[other].sleep())
                    self._awake.remove(other)
            if side not in self._awake:
                await within(SWITCH_SECONDS, self._sides[side].wake_up())
                self._awake.add(side)
            self._holder, self._fresh = side, True
            self.switches += 1
            self.seconds += time.perf_counter() - started
        except TimeoutError:
            self._stuck = True
        finally:
            self._switching = None
            self._telling = asyncio.ensure_future(self._tell())  # when this is over

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class SharingSampler:
    """A sampler that waits for its turn on the device; see `roles.Sampler`."""

    def __init__(self, sampler: Sampler, device: SharedDevice, side: int) -> None:
        self._sampler, self._device, self._side = sampler, device, side

    async def complete(self, messages: Messages, sampling: Sampling) -> Completion:
        async with self._device.turn(self._side):
            return await self._sampler.complete(messages, sampling)


class SharingScorer:
    """A scorer that waits for its turn on the device; see `roles.Scorer`."""

    def __init__(self, scorer: Scorer, device: SharedDevice, side: int) -> None:
        self._scorer, self._device, self._side = scorer, device, side

    async def score(self, problem: str, responses: Sequence[str]) -> list[Scores]:
        async with self._device.turn(self._side):
            return await self._scorer.score(problem, responses)
