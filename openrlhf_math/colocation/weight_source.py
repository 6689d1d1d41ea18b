"""The trainer's parameters as vLLM's weight transfer reads them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import deepspeed
import torch
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

from openrlhf_math.colocation.buckets import plan_buckets


class DeepSpeedSource(WeightSource):
    """All parameters of a module that DeepSpeed trains, tied ones once, in the order of `named_parameters`.

    Up to ZeRO-2 they are handed out as they are. Under ZeRO-3 the ranks hold shards, which are gathered
    `bucket_bytes` at a time, and with tensor parallelism one parameter at a time: iterate on every rank.
    """

    def __init__(
        self, module: torch.nn.Module, zero_stage: int, bucket_bytes: int, tensor_parallel_size: int = 1
    ) -> None:
        self._module = module
        self._zero_stage = zero_stage
        self._bucket_bytes = bucket_bytes
        self._tensor_parallel = tensor_parallel_size > 1
        self._metadata: list[ParamMeta] | None = None

    def metadata(self) -> list[ParamMeta]:
        """Names, dtypes and full shapes. With tensor parallelism the first call gathers everything once."""
        if self._metadata is None:
            # ZeRO-3 keeps the full shape beside an empty parameter.
            whole = self if self._tensor_parallel else self._module.named_parameters()
            self._metadata = [
                ParamMeta(name, tensor.dtype, tuple(getattr(tensor, "ds_shape", tensor.shape)))
                for name, tensor in whole
            ]
        return self._metadata

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for together in self._gathered_together():
            with self._whole([parameter for _, parameter in together]):
                for name, parameter in together:
                    yield name, parameter.detach()  # an alias, which outlives the gathering if the reader keeps it

    def _gathered_together(self) -> Iterator[list[tuple[str, torch.nn.Parameter]]]:
        if self._tensor_parallel:
            yield from ([pair] for pair in self._module.named_parameters())
            return
        parameters = dict(self._module.named_parameters())
        for bucket in plan_buckets(self.metadata(), self._bucket_bytes):
            yield [(slot.name, parameters[slot.name]) for slot in bucket.slots]

    def _whole(self, parameters: list[torch.nn.Parameter]) -> AbstractContextManager:
        if self._tensor_parallel:
            from deepspeed.module_inject.layers import GatherReplacedLayerParams

            return GatherReplacedLayerParams(parameters, self._module, enabled=True)
        return deepspeed.zero.GatheredParameters(parameters, enabled=self._zero_stage == 3)
