"""A model's parameters under the names and in the shapes that its checkpoint has, which are those vLLM knows.

Transformers 5 keeps some models otherwise in memory: the experts of a mixture, for one, as a single tensor, at times
under another name. Its own conversions, which `save_pretrained` applies, are applied here to few parameters at a time.
"""

from collections import Counter
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from vllm.distributed.weight_transfer.base import ParamMeta, layerwise_groups

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
