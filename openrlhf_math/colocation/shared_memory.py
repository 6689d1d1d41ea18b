"""Weight transfer on one machine's CPU: vLLM's IPC engine with shared memory in place of CUDA handles.

Parameters travel in buckets: a bucket is one piece of memory that holds whole parameters. The trainer's end owns one
segment a bucket. Both ends map them once, at the first handshake, and the files' names are removed at once: nothing
stays behind, however the run ends. An update then copies each parameter into its place, and the worker loads views of
it. Segments are kept because fresh pages cost eight times the copy, and are one a bucket because vLLM holds on to a
layer's tensors until the layer is complete (`tests/benchmarks/weight_transfer.py`).
"""

import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from vllm.distributed.weight_transfer.base import (
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory, WeightTransferTrainerFactory

ALIGNMENT = 64  # bytes; any dtype can be viewed at such an offset


@dataclass(frozen=True)
class Slot:
    """The place of a parameter in its bucket. offset: bytes."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def view(self, memory: torch.Tensor) -> torch.Tensor:
        """A view of the parameter in its bucket's memory, uint8 [bytes]. No copy."""
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


BACKEND = "shared_memory"
DIRECTORY = "/dev/shm"


@dataclass
class SharedMemoryInitInfo(WeightTransferInitInfo):
    """segments: of each bucket `path`, `size` in bytes and `slots`, lists of name, dtype's name, shape and offset."""

    segments: list[dict[str, Any]]


@dataclass
class SharedMemoryUpdateInfo(WeightTransferUpdateInfo):
    """bucket: number of the bucket that is filled. The handshake described its contents."""

    bucket: int


@dataclass
class SharedMemoryTrainerInitInfo(TrainerInitInfo):
    backend: ClassVar[str] = BACKEND
    bucket_bytes: int


class SharedMemoryEngine(WeightTransferEngine[SharedMemoryInitInfo, SharedMemoryUpdateInfo]):
    """The worker's end."""

    init_info_cls = SharedMemoryInitInfo
    update_info_cls = SharedMemoryUpdateInfo

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.buckets: list[list[tuple[str, torch.Tensor]]] = []

    def init_transfer_engine(self, init_info: SharedMemoryInitInfo) -> None:
        """Map the trainer's segments. Raises RuntimeError if the trainer is on another machine."""
        from openrlhf_math.colocation.reload import Reload  # a trainer's process needs none of it

        self.buckets = [weights_in(segment) for segment in init_info.segments]
        self.reload = Reload(self.model)

    def start_weight_update(self) -> None:
        self.reload.start()

    def receive_weights(self, update_info: SharedMemoryUpdateInfo) -> None:
        self.reload.load(self.buckets[update_info.bucket])

    def finish_weight_update(self) -> None:
        self.reload.finish(self.model_config)

    def shutdown(self) -> None:
        self.buckets = []


class SharedMemoryTrainerEngine(TrainerWeightTransferEngine[SharedMemoryTrainerInitInfo]):
    """The trainer's end. Every rank reads the source, rank 0 writes what it reads."""

    init_info_cls = SharedMemoryTrainerInitInfo

    def __init__(
        self, *, client: VLLMWeightSyncClient, source: WeightSource, is_sender: bool, bucket_bytes: int
    ) -> None:
        super().__init__(client=client, source=source, is_sender=is_sender)
        self.buckets = plan_buckets(source.metadata(), bucket_bytes)
        self.memories: list[torch.Tensor] = []

    @classmethod
    def trainer_init(
        cls,
        init_info: SharedMemoryTrainerInitInfo,
        *,
        client: VLLMWeightSyncClient,
        source: WeightSource | None = None,
    ) -> Self:
        """Raises OSError if shared memory is too small: a container needs --shm-size above the model's size."""
        if source is None:
            raise ValueError("weight transfer through shared memory sends a WeightSource: give one")
        engine = cls(client=client, source=source, is_sender=init_info.is_sender, bucket_bytes=init_info.bucket_bytes)
        if engine.is_sender:
            with segments_for(engine.buckets) as segments:
                engine.memories = [map_segment(segment) for segment in segments]
                client.init_weight_transfer_engine({"segments": segments})
        return engine

    def send_weights(self) -> None:
        if not self.is_sender:
            for _ in self.source:  # takes part in gathering shards
                pass
            return
        self.client.start_weight_update()
        weights = iter(self.source)
        for number, (bucket, memory) in enumerate(zip(self.buckets, self.memories, strict=True)):
            fill(bucket, memory, weights)
            self.client.update_weights({"bucket": number})
        # Past the last parameter: lets the source, and with it the other ranks, come to its end.
        if (extra := next(weights, None)) is not None:
            raise RuntimeError(f"weight transfer: the source yields {extra[0]}, which its metadata does not name")
        self.client.finish_weight_update()

    def shutdown(self) -> None:
        self.memories = []


def fill(bucket: Bucket, memory: torch.Tensor, weights: Iterator[tuple[str, torch.Tensor]]) -> None:
    """Copy the next parameters of `weights` to their places. memory: uint8 [bytes]."""
    for slot in bucket.slots:
        name, tensor = next(weights, ("nothing", torch.empty(0)))
        if name != slot.name or tensor.shape != slot.shape:
            raise RuntimeError(
                f"weight transfer: the source yields {name} {list(tensor.shape)} in place of {slot.name} "
                f"{list(slot.shape)}, which its metadata names"
            )
        slot.view(memory).copy_(tensor)


@contextmanager
def segments_for(buckets: list[Bucket]) -> Iterator[list[dict[str, Any]]]:
    """Files in shared memory for the buckets, in the form of SharedMemoryInitInfo. Their names last as the block."""
    segments: list[dict[str, Any]] = []
    try:
        for bucket in buckets:
            descriptor, path = tempfile.mkstemp(prefix="openrlhf_math_", dir=DIRECTORY)
            segments.append({"path": path, "size": bucket.size, "slots": [as_json(slot) for slot in bucket.slots]})
            try:
                os.posix_fallocate(descriptor, 0, bucket.size)  # says now if there is no room; a write would kill us
            finally:
                os.close(descriptor)
        yield segments
    finally:
        for segment in segments:
            os.unlink(segment["path"])


def as_json(slot: Slot) -> list:
    return [slot.name, str(slot.dtype).removeprefix("torch."), list(slot.shape), slot.offset]


def map_segment(segment: dict[str, Any]) -> torch.Tensor:
    """A segment's memory, uint8 [bytes], shared with everyone who maps it."""
    return torch.from_file(segment["path"], shared=True, size=segment["size"], dtype=torch.uint8)


def weights_in(segment: dict[str, Any]) -> list[tuple[str, torch.Tensor]]:
    """Named views of a segment's parameters. Raises RuntimeError if it is not on this machine."""
    if not os.path.exists(segment["path"]):
        raise RuntimeError(
            f"weight transfer: {segment['path']} is not here. On CPUs weights go through shared memory, so engines "
            "must run on the machine of the policy's first process"
        )
    memory = map_segment(segment)
    slots = [Slot(name, getattr(torch, dtype), tuple(shape), offset) for name, dtype, shape, offset in segment["slots"]]
    return [(slot.name, slot.view(memory)) for slot in slots]


WeightTransferEngineFactory.register_engine(BACKEND, __name__, "SharedMemoryEngine")
WeightTransferTrainerFactory.register_engine(BACKEND, __name__, "SharedMemoryTrainerEngine")
