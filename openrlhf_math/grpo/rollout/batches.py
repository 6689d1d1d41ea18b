"""A rollout batch between the engines and its step, and how it waits in a checkpoint."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_math.former_names import FIGURES, METRICS, outcome, renamed
from openrlhf_math.grpo.rollout.kept_rollouts import Graded

PLACE = "tensor"  # marks where a tensor was


@dataclass
class Batch:
    """What the sample generator has for a step. samples: a whole batch, or none.

    pass_rate, consumed, exhausted: as OpenRLHF's `generate_samples` gives them; exhausted: the episode has no more.
    left_out: its last prompts, which fill no batch. limit: tokens that a completion could have, None for as many as the
    context holds. noted: of each problem, whether its completions were correct, in all groups that were generated.
    ungraded: without a grade. span: when engines began with it and were done, seconds of work since the start
    of the run; None without engines.
    drawn, metrics: of the problems, known when its step comes: a record of problems.jsonl, and numbers.
    """

    samples: list[Experience]
    pass_rate: float | None
    consumed: int
    exhausted: bool
    left_out: int
    limit: int | None
    noted: dict[int, list[bool]] = field(default_factory=dict)
    ungraded: list[dict] = field(default_factory=list)
    span: tuple[float, float] | None = None
    drawn: dict = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    def truncated(self) -> float:
        """The share of its completions that the limit cut off."""
        return torch.cat([sample.truncated for sample in self.samples]).float().mean().item()

    def off_policy(self, step: int) -> dict[str, float]:
        """How far the weights that wrote it are behind the policy, which has taken `step` gradient steps.

        weights_version: the fewest gradient steps that an engine's weights had. off_policy_steps: steps behind, the
        mean over completions.
        """
        versions = [sample.graded.weights for sample in self.samples]
        behind = sum(step - version for version in versions) / len(versions)
        return {"weights_version": float(min(versions)), "off_policy_steps": behind}


def to_state(batches: Sequence[Batch]) -> dict[str, Any]:
    """Batches as a text and a tensor of each dtype, which a checkpoint reads without running anything.

    Integers are kept in as few bytes as they need: token ids in 4, masks in 1.
    """
    tensors: dict[str, list[torch.Tensor]] = {}

    def take_out(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            small = narrow(value)
            tensors.setdefault(name_of(small), []).append(small.reshape(-1))
            return {PLACE: [name_of(value), name_of(small), *value.shape]}
        return {name: take_out(item) for name, item in value.items()} if isinstance(value, dict) else value

    plain = []
    for batch in batches:
        samples = [vars(sample) | {"graded": asdict(sample.graded)} for sample in batch.samples]
        plain.append(vars(batch) | {"samples": list(map(take_out, samples)), "noted": [*batch.noted.items()]})
    return {"text": json.dumps(plain), **{dtype: torch.cat(parts) for dtype, parts in tensors.items()}}


def from_state(state: dict[str, Any]) -> list[Batch]:
    """The inverse of `to_state`."""
    read = dict.fromkeys(state, 0)

    def put_back(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if value.keys() != {PLACE}:
            return {name: put_back(item) for name, item in value.items()}
        dtype, kept, *shape = value[PLACE]
        begin = read[kept]
        read[kept] += torch.Size(shape).numel()
        return state[kept][begin : read[kept]].reshape(shape).to(getattr(torch, dtype), copy=True)

    batches = []
    for plain in json.loads(state["text"]):
        plain = renamed(plain, FIGURES)
        samples = []
        for sample in map(put_back, plain["samples"]):
            graded = Graded(**sample.pop("graded"))
            graded = replace(graded, outcome=outcome(graded.outcome))
            samples.append(Experience(**sample | {"info": renamed(sample["info"], METRICS)}))
            samples[-1].graded = graded
        span = plain["span"] and tuple(plain["span"])
        batches.append(Batch(**plain | {"samples": samples, "noted": dict(plain["noted"]), "span": span}))
    return batches


def name_of(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def narrow(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers in a smaller dtype, if they are int64 and fit."""
    if tensor.dtype == torch.int64 and tensor.numel():
        low, high = tensor.min(), tensor.max()
        for dtype in (torch.uint8, torch.int32):
            if torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max:
                return tensor.to(dtype)
    return tensor
