"""The trainer's parameters as vLLM's weight transfer reads them."""

import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import deepspeed
import torch
from peft import PeftModel
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

from openrlhf_math.colocation.buckets import plan_buckets
from openrlhf_math.colocation.checkpoint_names import Unit, as_saved, plan_units
from openrlhf_math.colocation.merged_weights import full_shape, weights_of


class DeepSpeedSource(WeightSource):
    """All parameters of a module that DeepSpeed trains, tied ones once, in the order of `named_parameters`.

    They have the names and shapes of the model's checkpoint, and LoRA adapters merged in. Up to ZeRO-2 they are handed
    out as they are. Under ZeRO-3 the ranks hold shards, which are gathered `bucket_bytes` at a time, and with tensor
    parallelism one parameter at a time: iterate on every rank. Nothing of the model is changed.
    """

    def __init__(
        self, module: torch.nn.Module, zero_stage: int, bucket_bytes: int, tensor_parallel_size: int = 1
    ) -> None:
        self._module = module
        self._model = module.get_base_model() if isinstance(module, PeftModel) else module
        self._zero_stage = zero_stage
        self._bucket_bytes = bucket_bytes
        self._tensor_parallel = tensor_parallel_size > 1

    def metadata(self) -> list[ParamMeta]:
        """Names, dtypes and full shapes. With tensor parallelism the first call gathers everything once."""
        return [saved for unit in self._units for saved in unit.saved]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        weights = {weight.name: weight for weight in weights_of(self._module)}
        for together in self._gathered_together():
            with self._whole([part for unit in together for name in unit.names for part in weights[name].parts]):
                for unit in together:
                    # An alias outlives the gathering if the reader keeps it.
                    tensors = {name: weights[name].merged() for name in unit.names}
                    converted = tensors if unit.as_trained else as_saved(self._model, tensors)
                    for saved in unit.saved:
                        yield saved.name, converted[saved.name].contiguous()

    @cached_property
    def _trained(self) -> list[ParamMeta]:
        """The parameters as they are trained, with full shapes."""
        described = []
        for weight in weights_of(self._module):
            with self._whole([weight.parameter]) if self._tensor_parallel else nullcontext():
                described.append(ParamMeta(weight.name, weight.parameter.dtype, full_shape(weight.parameter)))
        return described

    @cached_property
    def _units(self) -> list[Unit]:
        return plan_units(self._model, self._trained)

    def _gathered_together(self) -> Iterator[list[Unit]]:
        if self._tensor_parallel:
            yield from ([unit] for unit in self._units)
            return
        trained = {each.name: each for each in self._trained}
        begins = {unit.names[0]: unit for unit in self._units}
        for bucket in plan_buckets([trained[name] for unit in self._units for name in unit.names], self._bucket_bytes):
            yield [begins[slot.name] for slot in bucket.slots if slot.name in begins]

    def _whole(self, parameters: list[torch.nn.Parameter]) -> AbstractContextManager:
        if self._tensor_parallel:
            from deepspeed.module_inject.layers import GatherReplacedLayerParams

            return GatherReplacedLayerParams(parameters, self._module, enabled=True)
        return deepspeed.zero.GatheredParameters(parameters, enabled=self._zero_stage == 3)


class NoisySource(DeepSpeedSource):
    """Weights times 1 + `noise` times a standard normal number, for experiments with an engine that differs on purpose.

    The numbers depend on the weight's name and `seed` alone: as with rounded weights, the engine is off in the same way
    after every transfer, and in a run that resumes.
    """

    def __init__(self, *args: Any, noise: float, seed: int) -> None:
        super().__init__(*args)
        self._noise, self._seed = noise, seed

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, weight in super().__iter__():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{self._seed} {name}".encode()))
            factors = 1 + self._noise * torch.randn(weight.shape, generator=generator)
            yield name, (weight * factors.to(weight.device)).to(weight.dtype)
