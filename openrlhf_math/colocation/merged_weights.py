"""A PEFT model with its LoRA adapters merged in: its weights under the names of the plain model, and its files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import deepspeed
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Linear, ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from vllm.distributed.weight_transfer.base import ParamMeta

from openrlhf_math.checkpoints.folder import ADAPTER
from openrlhf_math.colocation.buckets import plan_buckets
from openrlhf_math.data.prompts import Tokenizer

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
        whole = self.parameter.detach()
        return whole if self.update is None else self.update.added_to(whole)


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
            raise ValueError(f"{name} is trained beside the adapters, which merging leaves out")
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
    """ZeRO-3 keeps the full shape beside an empty parameter."""
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
