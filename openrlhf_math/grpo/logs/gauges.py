"""The newest step as gauges of Ray's Prometheus endpoint, which every node of a Ray cluster has.

Ray puts `ray_` before the names. Every gauge has the tag `run`, so that a cluster can have several.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.util.metrics import Gauge

# Ours, by their gauge's name; what it is.
GAUGES = {
    "step": "steps done",
    "steps": "steps in all",
    "reward": "mean reward of the completions of the step",
    "accuracy": "share of correct completions",
    "format_rate": "share of completions in correct format",
    "completion_length": "mean tokens of a completion",
    "truncation_rate": "share of completions that were cut off",
    "ungraded_rate": "share of completions that could not be graded",
    "zero_advantage_rate": "share of completions with advantage 0",
    "logprob_gap": "mean difference between trainer and engine, nats a token",
    "policy_loss": "the policy loss",
    "grad_norm": "norm of the gradient before it is clipped",
    "learning_rate": "learning rate",
    "tokens_per_second": "generated tokens for each second of the whole step",
    "memory_peak_gib": "sum of every process's peak memory in the step, GiB",
    "phase_seconds": "seconds of the step, by phase",
}
PREFIX, TIMING = "openrlhf_math_", "timing/"


def values(record: dict, steps: int) -> dict[str, float]:
    """Of a step's record, the finite ones. steps: in all."""
    seconds = record.get("timing/step_total") or math.nan
    length = record.get("completion_length", math.nan) - record.get("tool/tokens", 0.0)
    tokens = record.get("rollout/num_samples", math.nan) * length
    derived = {
        "steps": steps, "tokens_per_second": tokens / seconds, "memory_peak_gib": record.get("memory/peak_gib")
    }  # fmt: skip
    known = record | derived
    return {name: float(known[name]) for name in GAUGES if _is_number(known.get(name))}


def phases(record: dict) -> dict[str, float]:
    """Seconds by phase."""
    return {
        name.removeprefix(TIMING): float(value)
        for name, value in record.items()
        if name.startswith(TIMING) and _is_number(value)
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def step_gauges(run: str) -> Callable[[dict, int], None]:
    """A function (a step's record, steps in all) that sets the gauges. run: the tag. Ray must be connected when it is
    called; who connects is asked at the first step."""
    gauges: dict = {}

    def gauge(name: str, *tags: str) -> "Gauge":
        if name not in gauges:
            from ray.util.metrics import Gauge

            gauges[name] = Gauge(PREFIX + name, description=GAUGES[name], tag_keys=("run", *tags))
            gauges[name].set_default_tags({"run": run})
        return gauges[name]

    def set_all(record: dict, steps: int) -> None:
        for name, value in values(record, steps).items():
            gauge(name).set(value)
        for phase, seconds in phases(record).items():
            gauge("phase_seconds", "phase").set(seconds, tags={"phase": phase})

    return set_all
