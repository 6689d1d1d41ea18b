"""Use of the device by phase: vLLM generates, DeepSpeed trains, and weights are sent in between.

    rollout     engines awake; DeepSpeed's gradients, master weights and optimizer state in CPU memory
    train       engines asleep; DeepSpeed's states are on the device while a gradient step is taken
    transfer    engines hold weights and no KV cache; DeepSpeed's states are back in CPU memory

Engines that stay (`--math.overlap`) are awake in all of them, and idle in `transfer`.

Engines go to sleep when training begins and not when generation ends. Only then is it certain that new weights follow,
so the old ones are discarded (vLLM's sleep level 2) and not copied to CPU memory; and generating again before
that, such as an evaluation, finds the engines as they are.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray

from openrlhf_math.colocation.cluster import LOST

if TYPE_CHECKING:
    from openrlhf.trainer.ray.launcher import RayActorGroup

GIB = 2**30
DISCARD = 2  # vLLM's sleep level that keeps no copy of the weights


class PhaseError(RuntimeError):
    """A change of phase that did not happen: which one, in which phase, and why."""


def wait_for(references: list, seconds: float) -> list:
    return ray.get(references, timeout=seconds)


@dataclass
class Phases:
    """Moves engines and DeepSpeed's states, times each move and weighs it.

    engines: Ray handles of rollout actors. policy: the RayActorGroup of the policy.
    engines_sleep, states_offload: whether these are moved at all; where they are not, as on a CPU, the same order is
    kept and reported. others: more groups, counted in the peak of memory. timeout: seconds that one move may take.
    engines_stay: whether engines have their own devices, where they generate while the policy trains.
    recover: called when an engine died during a request; when it returns, all engines run and have the newest
    weights, and are asked once more.
    """

    engines: list
    policy: "RayActorGroup"
    engines_sleep: bool
    states_offload: bool
    others: list = field(default_factory=list)
    timeout: float = 1800.0
    engines_stay: bool = False
    wait: Callable[[list, float], list] = wait_for
    recover: Callable[[], None] | None = None

    phase: str = field(default="start", init=False)
    weights_valid: bool = field(default=True, init=False)
    _awake: set[str] = field(default_factory=set, init=False)  # OpenRLHF puts engines to sleep once they are there
    _report: dict[str, float] = field(default_factory=dict, init=False)

    def rollout(self) -> None:
        """Before generation. Raises PhaseError if the engines' weights were discarded and not sent again."""
        if not self.weights_valid:
            raise PhaseError(
                f"phase {self.phase}: generation was asked for, but the engines' weights were discarded for training "
                "and no transfer has brought new ones"
            )
        self.phase = "rollout"
        self._wake("weights")
        self._wake("kv_cache")

    def train(self) -> None:
        """Before a training step, after which weights must be transferred."""
        self.phase = "train"
        if self.engines_stay:
            return
        if self._awake == {"weights"}:
            self._wake("kv_cache")  # vLLM does not put an engine to sleep that is half awake
        if self._awake:
            self.weights_valid = False
            self._move("sleep", self._engines, "sleep", self.engines_sleep, level=DISCARD)
            self._awake.clear()

    def reload(self) -> None:
        """Before gradient steps: DeepSpeed's states to the device."""
        self._move("reload", self._policy, "reload_states", self.states_offload)

    def offload(self) -> None:
        """After gradient steps: DeepSpeed's states to CPU memory."""
        self._move("offload", self._policy, "offload_states", self.states_offload)

    def transfer(self) -> None:
        """Send the policy's weights to the engines."""
        self.phase = "transfer"
        self._wake("weights")
        self.weights_valid = False  # should it fail, half of them are new
        self._report |= self._move("transfer", self._policy, "broadcast_to_vllm", True)[0]
        self.weights_valid = True

    def take_report(self) -> dict[str, float]:
        """Metrics since the last call: `timing/MOVE` in seconds, `memory/MOVE_before` and `memory/MOVE_after` in GiB
        of the fullest device (without one, of the largest process), `transfer/*`, and `memory/peak_gib`, the sum over
        the processes of each one's peak, which they need not reach together."""
        report, self._report = self._report, {}
        peaks = self._ask("report", self._everyone, "take_peak_bytes")
        return report | {"memory/peak_gib": sum(peaks) / GIB}

    def _wake(self, tag: str) -> None:
        if tag not in self._awake:
            self._move(f"wake_{tag}", self._engines, "wake_up", self.engines_sleep, tags=[tag])
            self._awake.add(tag)

    def _engines(self, method: str, **arguments: Any) -> list:
        return [getattr(engine, method).remote(**arguments) for engine in self.engines]

    def _policy(self, method: str, **arguments: Any) -> list:
        return self.policy.async_run_method(method_name=method, **arguments)

    def _everyone(self, method: str) -> list:
        others = [reference for group in self.others for reference in group.async_run_method(method_name=method)]
        return self._engines(method) + self._policy(method) + others

    def _move(self, name: str, side: Callable[..., list], method: str, moves: bool, **arguments: Any) -> list:
        """Have every actor of a side run `method`, if they move at all, and note seconds and memory."""
        before = self._ask(name, side, "used_bytes")
        started = time.perf_counter()
        answers = self._ask(name, side, method, **arguments) if moves else []
        seconds = time.perf_counter() - started
        after = self._ask(name, side, "used_bytes") if moves else before
        self._report[f"timing/{name}"] = self._report.get(f"timing/{name}", 0.0) + seconds
        self._report.setdefault(f"memory/{name}_before", max(before) / GIB)
        self._report[f"memory/{name}_after"] = max(after) / GIB
        return answers

    def _ask(self, move: str, side: Callable[..., list], method: str, **arguments: Any) -> list:
        try:
            try:
                return self.wait(side(method, **arguments), self.timeout)
            except LOST:
                if side == self._policy or self.recover is None:
                    raise
                self.recover()
                return self.wait(side(method, **arguments), self.timeout)
        except Exception as error:  # Ray's, DeepSpeed's or vLLM's: whatever it is, the run cannot continue
            raise PhaseError(f"phase {self.phase}, {move}: {reason(error, self.timeout)}") from error


def reason(error: Exception, timeout: float) -> str:
    if hasattr(error, "cause"):  # Ray's wrapper of what an actor raised
        return f"{type(error.cause).__name__}: {error.cause}"
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    return f"{type(error).__name__}: {error}"
