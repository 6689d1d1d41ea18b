"""Handing the trainer's weights to vLLM engines on the same machine, through shared memory."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import deepspeed
import torch

SHARED_MEMORY = Path("/dev/shm")


def named_weights(model: torch.nn.Module, zero_stage: int) -> dict[str, torch.Tensor]:
    """All parameters of an unwrapped model by name, gathered if ZeRO-3 shards them. Call it on every rank."""
    weights = {}
    for name, parameter in model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], enabled=zero_stage == 3):
            # A copy only where the gathered parameter is about to be freed again.
            weights[name] = parameter.detach().clone() if zero_stage == 3 else parameter.detach()
    return weights


@contextmanager
def in_shared_memory(weights: dict[str, torch.Tensor]) -> Iterator[str]:
    """A safetensors file of the weights in shared memory, removed at the end of the block. Yields its path.

    Raises OSError if shared memory is too small: a container needs --shm-size above the model's size.
    """
    from safetensors.torch import save_file

    descriptor, path = tempfile.mkstemp(prefix="openrlhf_math_", suffix=".safetensors", dir=SHARED_MEMORY)
    os.close(descriptor)
    try:
        save_file({name: weight.contiguous() for name, weight in weights.items()}, path)
        yield path
    finally:
        Path(path).unlink(missing_ok=True)
