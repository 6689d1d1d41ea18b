"""From the trainer's parameters to the engines, through vLLM's own weight transfer engines."""

import math
import time
from dataclasses import dataclass
from typing import Protocol

import torch
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    WeightTransferInitRequest,
)
from vllm.distributed.weight_transfer.clients import RayVLLMWeightSyncClient
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

from openrlhf_math.arguments import RLArguments
from openrlhf_math.colocation.layout import transfer_backend
from openrlhf_math.colocation.shared_memory import SharedMemoryTrainerInitInfo
from openrlhf_math.colocation.weight_source import DeepSpeedSource, NoisySource

# Large enough to make the cost of a call to the engines negligible; ZeRO-3 and CUDA IPC hold one of them more.
BUCKET_BYTES = 256 * 2**20


class EnginesClient(RayVLLMWeightSyncClient):
    """Several independent engines as one. vLLM's own client gives all of them the same rank in an NCCL group.

    workers_each: worker processes of an engine. prefix_caching: whether cached prefixes are to be dropped, which
    the old weights computed.
    """

    def __init__(self, engines: list, workers_each: int, prefix_caching: bool) -> None:
        super().__init__(engines)
        self._workers_each = workers_each
        self._prefix_caching = prefix_caching

    def init_weight_transfer_engine(self, init_info: dict) -> None:
        import ray

        def own(number: int) -> dict:
            if "rank_offset" not in init_info:
                return init_info
            return init_info | {"rank_offset": init_info["rank_offset"] + number * self._workers_each}

        ray.get([
            engine.init_weight_transfer_engine.remote(WeightTransferInitRequest(init_info=own(number)))
            for number, engine in enumerate(self.handles)
        ])  # fmt: skip

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        import ray

        super().finish_weight_update(weight_version)
        if self._prefix_caching:
            ray.get([engine.reset_prefix_cache.remote() for engine in self.handles])


class EngineSettings(Protocol):
    """Of our settings, what a transfer goes by."""

    @property
    def device(self) -> str: ...

    @property
    def engine_noise(self) -> float: ...


class TransferArguments(RLArguments, Protocol):
    @property
    def math(self) -> EngineSettings: ...


@dataclass
class WeightTransfer:
    """The trainer's end. size: bytes of all parameters."""

    engine: TrainerWeightTransferEngine
    size: int

    @classmethod
    def open(
        cls,
        module: torch.nn.Module,
        engines: list,
        args: TransferArguments,
        rank: int,
        bucket_bytes: int = BUCKET_BYTES,
    ) -> "WeightTransfer":
        """Shake hands with the engines. Call it on every training process.

        module: the unwrapped model. engines: Ray handles of rollout actors. args: the run's settings.
        """
        which = (module, args.ds.zero_stage, bucket_bytes, args.ds.tensor_parallel_size)
        noise = args.math.engine_noise
        source = NoisySource(*which, noise=noise, seed=args.train.seed) if noise else DeepSpeedSource(*which)
        metadata = source.metadata()
        backend = transfer_backend(args.math.device, args.train.colocate_all)
        workers = len(engines) * args.vllm.tensor_parallel_size
        client = EnginesClient(engines, args.vllm.tensor_parallel_size, args.vllm.enable_prefix_caching)
        engine = WeightTransferTrainerFactory.trainer_init(
            init_info(backend, rank, metadata, workers, bucket_bytes), client=client, source=source
        )
        return cls(engine, sum(map(bytes_of, metadata)))

    def send(self) -> dict[str, float]:
        """Give every engine the newest weights; every training process takes part. Returns the step's metrics."""
        started = time.perf_counter()
        self.engine.send_weights()
        seconds = time.perf_counter() - started
        return {
            "transfer/bytes": float(self.size),
            "transfer/seconds": seconds,
            "transfer/gb_per_s": self.size / seconds / 1e9,
        }


def init_info(backend: str, rank: int, metadata: list[ParamMeta], workers: int, bucket_bytes: int) -> TrainerInitInfo:
    """What vLLM's trainer-side engine of this name is built from. workers: worker processes of all engines."""
    if backend == "shared_memory":
        return SharedMemoryTrainerInitInfo(rank=rank, bucket_bytes=bucket_bytes)
    sizes = [bytes_of(parameter) for parameter in metadata]
    if backend == "ipc":
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        # Its buffer is allocated as large as said here, and has to hold the largest parameter.
        buffer = min(max(bucket_bytes, *sizes), sum(sizes))
        return IPCTrainerInitInfo(rank=rank, packed=True, packed_buffer_size_bytes=buffer)
    import ray
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
    from vllm.utils.network_utils import get_open_port

    return NCCLTrainerInitInfo(
        rank=rank,
        master_address=ray.util.get_node_ip_address(),
        master_port=get_open_port(),
        world_size=workers + 1,
        packed=True,
        packed_buffer_size_bytes=max(bucket_bytes, *sizes),
    )


def bytes_of(parameter: ParamMeta) -> int:
    return math.prod(parameter.shape) * parameter.dtype.itemsize
