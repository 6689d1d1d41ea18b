"""A check before the first step: the path that trains a model gives the log-probabilities of the model itself.

What a configuration says of a model is never the whole truth, and a new model may do something that no one here has
seen. So a few short sequences go through the path that trains, and one at a time, without padding, through the model's
own forward pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from deepspeed.accelerator import get_accelerator
from jaxtyping import Bool, Float, Float32, Int64
from torch import distributed, nn

from openrlhf_math.errors import UserError

Tensor = torch.Tensor

PROMPTS = (11, 5)
COMPLETIONS = ((17, 4, 9), (1, 13, 6))
# Of the ids of a vocabulary: neither special tokens, which are at its ends, nor those that stand for images.
WORDS = (0.05, 0.5)
LARGEST_LEFT_OUT = 0.1  # share of the tokens: in a mixture rounding may send one to another expert
# Bounds, in what rounding at random does: right paths were seen to reach 1.6 times as much, and in mixtures, of which
# it may send several tokens to other experts, 3.3 times.
TIMES_ROUNDING, TIMES_ROUNDING_OF_EXPERTS = 2.5, 4.0
LINEAR = ("Linear", "Conv1D")  # parts of the names of linear layers' classes
# Nats a token that are never held against a path: what the order of a sum makes of a whole model.
UNNOTICED = {torch.float32: 1e-4, torch.float16: 1e-3, torch.bfloat16: 4e-3}


class WrongPath(UserError):
    """No path through the model gives its own log-probabilities, so that it cannot be trained."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Groups of sequences behind shared prompts, padded on the right."""

    sequences: Int64[Tensor, "batch tokens"]
    attention_mask: Int64[Tensor, "batch tokens"]
    action_mask: Bool[Tensor, "batch tokens-1"]

    @classmethod
    def of(cls, vocabulary: int, device: torch.device | str) -> "Probe":
        """Completions repeat parts of their prompt: a model that has learned to copy depends on it all the more."""
        generator = torch.Generator().manual_seed(0)
        first, end = (int(share * vocabulary) for share in WORDS)
        rows = []
        for length, completions in zip(PROMPTS, COMPLETIONS, strict=True):
            prompt = torch.randint(first, max(end, first + 1), (length,), generator=generator)
            for count in completions:
                start = int(torch.randint(0, length, (), generator=generator))
                new = torch.randint(first, max(end, first + 1), (count,), generator=generator)
                copied = prompt.roll(-start)[: count // 2]
                rows.append((length, torch.cat([prompt, copied, new[len(copied) :]])))
        longest = max(len(row) for _, row in rows)
        sequences = torch.full((len(rows), longest), first)
        mask, actions = torch.zeros_like(sequences), torch.zeros(len(rows), longest - 1, dtype=torch.bool)
        for number, (length, row) in enumerate(rows):
            sequences[number, : len(row)] = row
            mask[number, : len(row)] = 1
            actions[number, length - 1 : len(row) - 1] = True
        return cls(sequences.to(device), mask.to(device), actions.to(device))

    def one_at_a_time(self, log_probs_of: Callable[[Tensor], Tensor]) -> Float32[Tensor, " actions"]:
        """log_probs_of: of a sequence [1, tokens] to [tokens - 1], of its tokens but the first."""
        found = []
        for row, mask, actions in zip(self.sequences, self.attention_mask, self.action_mask, strict=True):
            length = int(mask.sum())
            found.append(log_probs_of(row[None, :length])[actions[: length - 1]])
        return torch.cat(found).float()


@dataclass(frozen=True, slots=True)
class Verdict:
    """difference: of a path from the model's own log-probabilities, mean over most tokens, nats. allowed: what is
    explained by the rounding of the model's dtype."""

    difference: float
    allowed: float

    @property
    def right(self) -> bool:
        return self.difference <= self.allowed

    def __str__(self) -> str:
        return f"by {self.difference:.2g} nats a token, where rounding explains {self.allowed:.2g}"


@dataclass(frozen=True, slots=True)
class Reference:
    """The model's own log-probabilities, how far rounding moves them, nats, and how many times as much a path may
    differ."""

    log_probs: Float32[Tensor, " actions"]
    rounding: float
    dtype: torch.dtype
    times: float = TIMES_ROUNDING

    @classmethod
    def of(cls, model: nn.Module, compute: Callable[[], Tensor], dtype: torch.dtype) -> "Reference":
        """compute: gives them with the model's own forward pass."""
        log_probs = compute()
        with rounding_noise(model, dtype):
            moved = _typical(compute() - log_probs)
        return cls(log_probs, moved, dtype, TIMES_ROUNDING_OF_EXPERTS if has_experts(model) else TIMES_ROUNDING)

    def judge(self, found: Float[Tensor, " actions"]) -> Verdict:
        """The same verdict in all processes of a training."""
        allowed = self.times * self.rounding + UNNOTICED.get(self.dtype, UNNOTICED[torch.bfloat16])
        return Verdict(_worst(_typical(found.float() - self.log_probs)), allowed)


def has_experts(model: nn.Module) -> bool:
    """Whether it is a mixture of experts, by the names of its modules and of their classes."""
    names = (f"{path} {type(module).__name__}".lower() for path, module in model.named_modules())
    return any("expert" in name or "moe" in name for name in names)


def _typical(difference: Float[Tensor, " actions"]) -> float:
    """Mean of |difference| without the largest."""
    kept = difference.abs().sort().values[: max(1, round(len(difference) * (1 - LARGEST_LEFT_OUT)))]
    return kept.mean().item()


def _worst(difference: float) -> float:
    """Of all processes; what is not a number is infinite."""
    difference = difference if difference == difference else torch.inf
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return difference
    worst = torch.tensor(difference, device=get_accelerator().current_device_name())  # NCCL takes no CPU memory
    distributed.all_reduce(worst, distributed.ReduceOp.MAX)
    return worst.item()


@contextmanager
def rounding_noise(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """What linear layers give is moved at random by as much as rounding to `dtype` moves it, within the block."""
    half_a_step = torch.finfo(dtype).eps / 2
    generators: dict[torch.device, torch.Generator] = {}

    def moved(module: nn.Module, inputs: object, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        if output.device not in generators:
            generators[output.device] = torch.Generator(output.device).manual_seed(0)
        noise = torch.rand(output.shape, generator=generators[output.device], device=output.device)
        return (output.float() * (1 + half_a_step * (2 * noise - 1))).to(output.dtype)

    # By name: those of tensor parallelism are of classes of DeepSpeed's own, and GPT-2's of one of Transformers'.
    linear = [each for each in model.modules() if any(name in type(each).__name__ for name in LINEAR)]
    hooks = [each.register_forward_hook(moved) for each in linear]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without gradients and dropout within the block."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
