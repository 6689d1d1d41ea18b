"""The trainer's parameters as vLLM's weight transfer reads them: named as in the checkpoint, LoRA merged in.

Transformers 5 keeps some models otherwise in memory: the experts of a mixture, for one, as a single tensor, at times
under another name. Its own conversions, which `save_pretrained` applies, are applied here to few parameters at a time.
"""

import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import deepspeed
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Linear, ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource, layerwise_groups

from openrlhf_math.checkpoints.folder import ADAPTER
from openrlhf_math.colocation.shared_memory import plan_buckets
from openrlhf_math.data.prompts import Tokenizer

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Unit:
    """Parameters that are converted together.

    names: in memory. saved: in the checkpoint. as_trained: whether both are the same, so that nothing is converted.
    """

    names: tuple[str, ...]
    saved: tuple[ParamMeta, ...]
    as_trained: bool


def as_saved(module: torch.nn.Module, tensors: Tensors) -> Tensors:
    """Parameters of `module` as `save_pretrained` would write them; views where that can be."""
    return revert_weight_conversion(module, tensors) if isinstance(module, PreTrainedModel) else tensors


def plan_units(module: torch.nn.Module, parameters: list[ParamMeta]) -> list[Unit]:
    """The smallest units that give what the conversion of the whole model gives, in the order of `parameters`.

    parameters: all of the model's, with full shapes. Nothing is allocated. Raises RuntimeError where there are none.
    """
    empty = {each.name: torch.empty(each.shape, dtype=each.dtype, device="meta") for each in parameters}
    converted = as_saved(module, dict(empty))
    if _same(converted, empty):
        return [Unit((each.name,), (each,), as_trained=True) for each in parameters]
    whole = set(_described(converted))
    units: dict[str, Unit] = {}
    joined = []
    for name, tensor in empty.items():
        unit = _unit(module, {name: tensor})
        if unit and whole.issuperset(unit.saved):
            units[name] = unit
        else:
            joined.append(name)
    for names in layerwise_groups(joined):  # a conversion does not reach beyond a layer
        if unit := _unit(module, {name: empty[name] for name in names}):
            units[names[0]] = unit
    if Counter(saved for unit in units.values() for saved in unit.saved) != Counter(whole):
        raise RuntimeError(
            f"weight transfer: the parameters of {type(module).__name__} cannot be given the names of its checkpoint "
            "a layer at a time"
        )
    return [units[each.name] for each in parameters if each.name in units]


def _unit(module: torch.nn.Module, tensors: Tensors) -> Unit | None:
    """None: these parameters cannot be converted without others."""
    try:
        converted = as_saved(module, dict(tensors))
    except Exception:  # a conversion of several parameters may do anything with one of them
        return None
    return Unit(tuple(tensors), tuple(_described(converted)), _same(converted, tensors))


def _same(converted: Tensors, tensors: Tensors) -> bool:
    return converted.keys() == tensors.keys() and all(converted[name] is tensors[name] for name in tensors)


def _described(tensors: Tensors) -> list[ParamMeta]:
    return [ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]


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
            with self._gathered([part for unit in together for name in unit.names for part in weights[name].parts]):
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
            with self._gathered([weight.parameter]) if self._tensor_parallel else nullcontext():
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

    def _gathered(self, parameters: list[torch.nn.Parameter]) -> AbstractContextManager:
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


Tensor = torch.Tensor
PEFT_ADAPTER = "default"  # PEFT's name of the adapter that `get_peft_model` adds


@dataclass(frozen=True)
class Update:
    """What an adapter adds to a weight W: scaling * B A. LoRA, https://arxiv.org/abs/2106.09685, section 4.1.

    a: [experts * rank, in]. b: [out, rank * experts], with the experts of a rank side by side, as PEFT lays them out;
    one expert for a linear layer. transposed: whether W is [in, out].
    """

    a: torch.nn.Parameter
    b: torch.nn.Parameter
    scaling: float
    experts: int = 1
    transposed: bool = False

    def added_to(self, weight: Tensor) -> Tensor:
        """A new tensor, computed in float32, of the weight's dtype. The weight stays as it is."""
        a = self.a.detach().float().unflatten(0, (self.experts, -1))  # [experts, rank, in]
        b = self.b.detach().float().unflatten(1, (-1, self.experts)).permute(2, 0, 1)  # [experts, out, rank]
        left, right = (a.mT, b.mT) if self.transposed else (b, a)
        total = weight.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        total.view(self.experts, *total.shape[-2:]).baddbmm_(left, right, alpha=self.scaling)
        return total.to(weight.dtype)


@dataclass(frozen=True)
class Weight:
    """name: in the model without adapters. update: None if no adapter changes it."""

    name: str
    parameter: torch.nn.Parameter
    update: Update | None

    @property
    def parts(self) -> list[torch.nn.Parameter]:
        """All that has to be gathered to merge it."""
        return [self.parameter] if self.update is None else [self.parameter, self.update.a, self.update.b]

    def merged(self) -> Tensor:
        weight = self.parameter.detach()
        return weight if self.update is None else self.update.added_to(weight)


def base_name(name: str) -> str:
    """The name of a PEFT model's parameter in the model that it was made from."""
    return name.removeprefix("base_model.model.").replace(".base_layer", "")


def weights_of(model: torch.nn.Module) -> list[Weight]:
    """Every parameter of a model, or of one with adapters without them, tied ones once, in the order of
    `named_parameters`.

    Raises ValueError for adapters whose merged weight is not W + scaling * B A of a linear layer or of experts.
    """
    if not isinstance(model, PeftModel):
        return [Weight(name, parameter, None) for name, parameter in model.named_parameters()]
    updates: dict[int, Update] = {}
    adapters: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            weight, update = _update(name, module)
            updates[id(weight)] = update
            adapters |= {id(update.a), id(update.b)}
    named = [(name, each) for name, each in model.named_parameters() if id(each) not in adapters]
    for name, parameter in named:
        if parameter.requires_grad:
            raise ValueError(f"{name} is trained in addition to the adapters, and merging would drop it")
    return [Weight(base_name(name), parameter, updates.get(id(parameter))) for name, parameter in named]


def _update(name: str, module: BaseTunerLayer) -> tuple[torch.nn.Parameter, Update]:
    """The weight that an adapter's layer changes, and what it adds."""
    if not isinstance(module, LoraLayer) or list(module.lora_A) != [PEFT_ADAPTER] or module.lora_variant:
        raise ValueError(f"{name} has another adapter than one plain LoRA, which cannot be merged here")
    if module.lora_bias.get(PEFT_ADAPTER) or module.merged:
        raise ValueError(f"{name} has a LoRA that is merged or has a bias, which cannot be merged here")
    a, b = (cast(torch.nn.Parameter, parts[PEFT_ADAPTER].weight) for parts in (module.lora_A, module.lora_B))
    scaling = module.scaling[PEFT_ADAPTER]
    if isinstance(module, ParamWrapper):
        weight = module.get_param()
        # PEFT swaps the sizes of three-dimensional weights that are [experts, out, in].
        transposed = len(full_shape(weight)) == 3 and not module._did_swap_in_out_features
        return weight, Update(a, b, scaling, cast(int, module.num_experts), transposed)
    if type(module) is Linear:
        weight = cast(torch.nn.Parameter, module.get_base_layer().weight)
        return weight, Update(a, b, scaling, transposed=bool(module.fan_in_fan_out))
    raise ValueError(f"{name} is a {type(module.get_base_layer()).__name__}; only linear layers and experts are merged")


def full_shape(parameter: torch.nn.Parameter) -> tuple[int, ...]:
    """ZeRO-3 keeps the full shape as an attribute of an empty parameter."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def merged_weights(model: PeftModel, zero_stage: int, bytes_at_once: int) -> Iterator[tuple[str, Tensor]]:
    """Names in memory and merged weights; nothing of the model is changed.

    Under ZeRO-3 the ranks hold shards, which are gathered `bytes_at_once` at a time: iterate on every rank.
    """
    weights = {weight.name: weight for weight in weights_of(model)}
    described = [ParamMeta(name, each.parameter.dtype, full_shape(each.parameter)) for name, each in weights.items()]
    for bucket in plan_buckets(described, bytes_at_once):
        together = [weights[slot.name] for slot in bucket.slots]
        parts = [part for weight in together for part in weight.parts]
        with deepspeed.zero.GatheredParameters(parts, enabled=zero_stage == 3):
            for weight in together:
                yield weight.name, weight.merged()


GATHERED_BYTES = 256 * 2**20  # of a ZeRO-3 model, at a time


def save_merged(model: PeftModel, tokenizer: Tokenizer, folder: Path, zero_stage: int, first: bool) -> None:
    """Write the merged model with its tokenizer into `folder`, and a PEFT adapter into its folder `adapter`.

    Every process calls it, the first one writes. The weights of the model stay as they are.
    """
    weights = {}
    for name, weight in merged_weights(model, zero_stage, GATHERED_BYTES):
        if first:
            weights[name] = weight.cpu()
    adapters = {name: each for name, each in model.named_parameters() if each.requires_grad}
    with deepspeed.zero.GatheredParameters(list(adapters.values()), enabled=zero_stage == 3):
        if not first:
            return
        model.save_pretrained(
            str(folder / ADAPTER),
            state_dict={name: each.detach().cpu() for name, each in adapters.items()},
            save_embedding_layers=False,  # none is adapted, and to find that out PEFT would ask the hub
        )
    base: Any = model.get_base_model()  # Transformers' model
    base.save_pretrained(folder, state_dict=weights | _buffers(model))
    tokenizer.save_pretrained(folder)


def _buffers(model: PeftModel) -> dict[str, torch.Tensor]:
    """Those a checkpoint has, such as the expert biases of DeepSeek-V3's router."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {base_name(name): each.cpu() for name, each in model.state_dict().items() if name not in parameters}
