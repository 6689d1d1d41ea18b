"""Skywork-o1-Open-PRM for vLLM: a Qwen2 with TRL's value head, under the architecture its checkpoints name.

Importing this module registers it: here, where vLLM plans the engine, and as `ValueHeadWorker` in its workers.
"""

from collections.abc import Iterable

import torch
from vllm import ModelRegistry
from vllm.model_executor.models.adapters import as_seq_cls_model
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM

from openrlhf_math.colocation.vllm_worker import WorkerExtension

ARCHITECTURE = "Qwen2ForPrmModel"


class Qwen2ForPrmModel(as_seq_cls_model(Qwen2ForCausalLM)):  # type: ignore[misc]  # vLLM makes the class
    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        return super().load_weights((name.replace("v_head.summary.", "score."), tensor) for name, tensor in weights)


ModelRegistry.register_model(ARCHITECTURE, Qwen2ForPrmModel)


class ValueHeadWorker(WorkerExtension):
    """A worker that knows the architecture."""
