"""New weights into an engine's model on the CPU: vLLM's layerwise reload, checked for completeness."""

import inspect
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.model_executor.layers.fused_moe.oracle.unquantized import UnquantizedMoeBackend
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
    layerwise,
)
from vllm.model_executor.model_loader.reload.meta import SKIP_LOAD_TENSORS

from openrlhf_math.patches.patch import substituted

if TYPE_CHECKING:
    from vllm.config import ModelConfig

Weights = Iterable[tuple[str, torch.Tensor]]


class Reload:
    """Updates of one model's weights: `start`, `load` as often as needed, `finish`.

    vLLM's loaders skip some names that they do not know, and its reload keeps what no name has filled. The first
    update is therefore loaded one tensor at a time, and each element is counted. Which names go where depends on the
    model and the names alone, so later updates are loaded as they come.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model: Any = model  # of vLLM, with `load_weights`
        self._account: Account | None = None
        self._checked = False

    def start(self) -> None:
        names = {name for name, _ in self._model.named_parameters()}  # a tied one once
        forget_packed_experts(self._model)
        initialize_layerwise_reload(self._model)
        self._account = None if self._checked else Account(self._model, names)

    def load(self, weights: Weights) -> None:
        """Raises RuntimeError, which names the tensor, if the model does not take all of it."""
        if self._account is None:
            self._model.load_weights(weights)
            return
        for name, tensor in weights:
            self._account.load(name, tensor)

    def finish(self, model_config: "ModelConfig") -> None:
        """Raises RuntimeError, which names them, if parameters of the engine were not given all of their elements."""
        if self._account is not None:
            self._account.close()
        finalize_layerwise_reload(self._model, model_config)
        repack_tied_heads(self._model)
        self._account, self._checked = None, True


@dataclass
class Place:
    """The tensors that a module has itself, by their full names. padded: with rows that no checkpoint has."""

    padded: bool
    parameters: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]


class Account:
    """What of a model has been loaded. Make it when the reload has been initialized.

    names: the model's parameters, without second names of tied ones.
    """

    def __init__(self, model: torch.nn.Module, names: set[str]) -> None:
        self._model: Any = model  # of vLLM, with `load_weights`
        self._places = [_place(prefix, module, names) for prefix, module in model.named_modules()]
        self._filled: Counter[int] = Counter()  # elements by the tensor's id; `_places` keeps the tensors alive

    def load(self, name: str, tensor: torch.Tensor) -> None:
        before = self._filled.total()
        count = layerwise.get_numel_loaded

        def counted(loader: Any, arguments: inspect.BoundArguments) -> tuple[int, Any]:
            loaded, result = count(loader, arguments)
            self._filled[id(arguments.arguments.get("param"))] += loaded
            return loaded, result

        with substituted(layerwise, get_numel_loaded=counted):
            self._model.load_weights([(name, tensor)])
        loaded = (self._filled.total() - before) * get_tensor_model_parallel_world_size()
        # vLLM writes these where they are, without its reload.
        if loaded < tensor.numel() and name.rpartition(".")[2] not in SKIP_LOAD_TENSORS:
            raise RuntimeError(
                f"weight transfer: vLLM's {type(self._model).__name__} takes {loaded} of the {tensor.numel()} elements "
                f"of {name}, so the engine cannot follow the training of this model"
            )

    def close(self) -> None:
        missing = [name for place in self._places for name in self._missing(place)]
        if missing:
            shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            raise RuntimeError(
                f"weight transfer: the trainer has not all of {shown} of vLLM's {type(self._model).__name__}, "
                "so the engine cannot follow the training of this model"
            )

    def _missing(self, place: Place) -> list[str]:
        def short(tensors: dict[str, torch.Tensor]) -> list[str]:
            wanted = {name: 1 if place.padded else tensor.numel() for name, tensor in tensors.items()}
            return [name for name, tensor in tensors.items() if self._filled[id(tensor)] < wanted[name]]

        missing = short(place.parameters)
        if any(id(tensor) in self._filled for tensor in place.parameters.values()):
            # A module that is loaded at all gets new memory for its persistent buffers, too.
            missing += short(place.buffers)
        return missing


def _place(prefix: str, module: torch.nn.Module, names: set[str]) -> Place:
    def named(tensors: Mapping[str, torch.Tensor | None]) -> dict[str, torch.Tensor]:
        full = {f"{prefix}.{name}" if prefix else name: tensor for name, tensor in tensors.items()}
        return {
            name: tensor
            for name, tensor in full.items()
            if tensor is not None and name.rpartition(".")[2] not in SKIP_LOAD_TENSORS
        }

    parameters = {name: tensor for name, tensor in named(module._parameters).items() if name in names}
    persistent = {
        name: buffer for name, buffer in module._buffers.items() if name not in module._non_persistent_buffers_set
    }
    buffers = {name: buffer for name, buffer in named(persistent).items() if buffer.is_meta}
    return Place(isinstance(module, VocabParallelEmbedding), parameters, buffers)


def forget_packed_experts(model: torch.nn.Module) -> None:
    """Let a mixture's layers pack their experts for the CPU again.

    vLLM 0.29 packs them with the first weights only (`UnquantizedFusedMoEMethod._setup_kernel`) and later copies
    unpacked weights into the packed memory. Without this, every update turns the experts into noise.
    """
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if method is not None and getattr(method, "unquantized_backend", None) is UnquantizedMoeBackend.CPU:
            method.moe_kernel = None


def repack_tied_heads(model: torch.nn.Module) -> None:
    """Refresh vLLM's packed copy of an output head that shares the embedding's weight, which a reload leaves as it was.

    Without this, rollouts come from new layers under an old head.
    """
    modules = list(model.modules())
    heads = [module for module in modules if isinstance(module, ParallelLMHead)]
    embeddings = [m.weight for m in modules if isinstance(m, VocabParallelEmbedding) and m not in heads]
    for head in heads:
        if any(head.weight is weight for weight in embeddings):
            head.quant_method.process_weights_after_loading(head)
