"""vLLM engines that die are started again, get the newest weights, and what they were asked is asked again.

Ray restarts a dead rollout actor in its place (`max_restarts`); an actor whose engine process died ends for that.
It comes back with the weights the run began with. So Ray is not to repeat what it was asked (`max_task_retries` is 0):
first the policy sends the newest weights, then the trainer dispatches the lost prompts.
"""

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import ray
from openrlhf.trainer.ppo_utils import samples_generator
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from openrlhf.utils.logging_utils import init_logger

from openrlhf_math.colocation.cluster import LOST
from openrlhf_math.colocation.engine_life import take_cause
from openrlhf_math.errors import brief
from openrlhf_math.patches.patch import substituted

logger = init_logger(__name__)
# Ray says of an actor that its memory monitor ended only this, and starts it again like any other.
GONE_FOR_NOW = (ray.exceptions.ActorUnavailableError, ray.exceptions.OutOfMemoryError)
POLL_SECONDS = 0.5
POLICY_SECONDS = 5.0


class EngineRecovery:
    """engines: Ray handles of rollout actors. policy: the RayActorGroup of the policy. bound: restarts of the run.

    version: of the policy's weights, the gradient steps it has taken; engines get it with the weights.
    """

    def __init__(self, engines: list, policy: Any, bound: int) -> None:
        self.engines, self.policy, self.bound = engines, policy, bound
        self.restarts = self.version = 0
        self._reported = 0
        self._policy_seen = time.monotonic()
        self._incarnations: list[str] = []  # not known before the first check: engines take their time to start

    def check(self) -> None:
        """Wait until every engine is there, and give the newest weights to those that were started again.

        Raises RuntimeError if an engine stays dead, or if there were more restarts than the bound.
        """
        incarnations = [self._incarnation(number) for number in range(len(self.engines))]
        known, self._incarnations = self._incarnations or incarnations, incarnations
        started = [number for number, incarnation in enumerate(incarnations) if incarnation != known[number]]
        if not started:
            return
        for number in started:
            self.restarts += 1
            why = self._why(number)
            logger.warning(
                f"vLLM engine {number} died{why} and was started again: restart {self.restarts} of {self.bound}"
            )
        if self.restarts > self.bound:
            raise RuntimeError(
                f"vLLM engines died {self.restarts} times{why}, more often than "
                f"--math.engine_restarts {self.bound} allows; look for the cause, or raise it"
            )
        ray.get(self.policy.async_run_method("send_weights_to", numbers=started))
        self.send_version(started)
        logger.warning(f"vLLM engines {started} have the newest weights; what they were asked is generated again")

    def send_version(self, numbers: Iterable[int] | None = None) -> None:
        """Engines have the policy's weights now: these, or all of them."""
        engines = self.engines if numbers is None else [self.engines[number] for number in numbers]
        ray.get([engine.have_weights.remote(self.version) for engine in engines])

    def check_policy(self) -> None:
        """Raises RayActorError if a worker of the policy is dead, which a rollout alone would notice at its end.

        Asks again only after POLICY_SECONDS.
        """
        if time.monotonic() - self._policy_seen > POLICY_SECONDS:
            ray.get(self.policy.async_run_method("used_bytes"))
            self._policy_seen = time.monotonic()

    def take_restarts(self) -> int:
        """Restarts since the last call."""
        new, self._reported = self.restarts - self._reported, self.restarts
        return new

    def _incarnation(self, number: int) -> str:
        """Which process an engine is: another one after each restart, which this waits for."""
        while True:
            try:
                return ray.get(self.engines[number].incarnation_id.remote())
            except GONE_FOR_NOW:
                self.check_policy()
                time.sleep(POLL_SECONDS)
            except ray.exceptions.RayActorError as error:
                if error.actor_init_failed:  # it never ran
                    raise
                why = self._why(number) or f" ({brief(error)})"
                raise RuntimeError(
                    f"vLLM engine {number} died{why} and is not started again: {self.restarts} restarts before, "
                    f"--math.engine_restarts {self.bound}"
                ) from error

    def _why(self, number: int) -> str:
        """The cause of the last death in brackets, if the engine left one."""
        cause = take_cause(self.engines[number]._actor_id.hex())
        return f" ({cause})" if cause else ""


class RecoveringGenerator(SamplesGenerator):
    """OpenRLHF's, which dispatches again the prompts that an engine took with it."""

    engines: EngineRecovery  # the trainer's

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._asked: dict = {}  # reference to an answer that has not come -> what was asked

    def waits_for(self) -> str:
        return f"the completions of {len(self._asked)} prompts from {len(self.engines.engines)} vLLM engines"

    def _begin(self) -> None:
        self._asked.clear()

    def _generate_vllm(self, *args: Any, **kwargs: Any) -> tuple:
        with substituted(samples_generator, ray=Answers(self._asked, self._look_after, self._before_wait)):
            return super()._generate_vllm(*args, **kwargs)

    def _before_wait(self, references: list) -> None:
        """Called in every round of the loop with the references it is about to wait for."""

    def _dispatch_prompts_to_vllm(
        self, prompts: list[str], labels: list[str], *, images: list | None = None, **generate_kwargs: Any
    ) -> list:
        references = None
        while references is None:
            self.engines.check()
            with contextlib.suppress(*LOST):  # upstream asks the engines how busy they are, before it dispatches
                references = super()._dispatch_prompts_to_vllm(prompts, labels, images=images, **generate_kwargs)
        rows = zip(references, prompts, labels, images or [None] * len(prompts), strict=True)
        self._asked |= {reference: (*row, generate_kwargs) for reference, *row in rows}
        return references

    def _look_after(self, lost: list) -> list:
        """Is the policy alive? Sends the requests of these references again and returns the new references."""
        again = []
        self.engines.check_policy()
        for prompt, label, image, generate_kwargs in map(self._asked.pop, lost):
            again += self._dispatch_prompts_to_vllm([prompt], [label], images=[image], **generate_kwargs)
        return again


class Answers:
    """Takes the place of `ray` in OpenRLHF's loop over rollouts: answers that died with their engine never reach it.

    asked: by reference, what was asked and has no answer. look_after: called in every round of the loop with the lost
    references; returns those to wait for instead. before_wait: called with the references of a round.
    """

    def __init__(self, asked: dict, look_after: Callable[[list], list], before_wait: Callable[[list], None]) -> None:
        self._asked, self._look_after, self._before_wait = asked, look_after, before_wait
        self._arrived: dict[ray.ObjectRef, object] = {}

    def wait(self, references: list, **options: Any) -> tuple[list, list]:
        self._before_wait(references)
        ready, pending = ray.wait(references, **options)
        lost = [reference for reference in ready if not self._fetch(reference)]
        pending = pending + self._look_after(lost)
        return [reference for reference in ready if reference not in lost], pending

    def get(self, reference: ray.ObjectRef | list[ray.ObjectRef]) -> Any:
        """As Ray's. What `wait` has fetched is handed out once."""
        if isinstance(reference, ray.ObjectRef) and reference in self._arrived:
            return self._arrived.pop(reference)
        return ray.get(reference)

    def _fetch(self, reference: ray.ObjectRef) -> bool:
        try:
            self._arrived[reference] = ray.get(reference)
        except LOST:
            return False
        self._asked.pop(reference)
        return True
