"""Which parameters travel together: a bucket is one piece of memory that holds whole parameters."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

ALIGNMENT = 64  # bytes; any dtype can be viewed at such an offset


@dataclass(frozen=True)
class Slot:
    """Where a parameter lies in its bucket. offset: bytes."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def view(self, memory: torch.Tensor) -> torch.Tensor:
        """The parameter as it lies in its bucket's memory, uint8 [bytes]. No copy."""
        return memory[self.offset : self.offset + self.size].view(self.dtype).view(self.shape)


@dataclass(frozen=True)
class Bucket:
    """size: bytes, with the gaps between parameters."""

    slots: tuple[Slot, ...]
    size: int


def plan_buckets(parameters: Iterable, bucket_bytes: int) -> list[Bucket]:
    """Fill buckets of `bucket_bytes` in the order of the parameters; one that is larger has its own bucket.

    parameters: objects with `name`, `dtype` and `shape`, such as vLLM's ParamMeta.
    """
    buckets: list[Bucket] = []
    slots: list[Slot] = []
    end = 0
    for parameter in parameters:
        slot = Slot(parameter.name, parameter.dtype, tuple(parameter.shape), offset=end)
        if slots and end + slot.size > bucket_bytes:
            buckets.append(Bucket(tuple(slots), end))
            slots = []
            slot = Slot(slot.name, slot.dtype, slot.shape, offset=0)
        slots.append(slot)
        end = -(-(slot.offset + slot.size) // ALIGNMENT) * ALIGNMENT
    if slots:
        buckets.append(Bucket(tuple(slots), end))
    return buckets
