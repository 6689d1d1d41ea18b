"""Saving a model that was trained with LoRA: merged, as any other model, and its adapters beside it."""

from pathlib import Path

import deepspeed
import torch
from peft import PeftModel

from openrlhf_math.checkpoints.folder import ADAPTER
from openrlhf_math.colocation.merged_weights import base_name, merged_weights

GATHERED_BYTES = 256 * 2**20  # of a ZeRO-3 model, at a time


def save_merged(model: PeftModel, tokenizer, folder: Path, zero_stage: int, first: bool) -> None:
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
            folder / ADAPTER,
            state_dict={name: each.detach().cpu() for name, each in adapters.items()},
            save_embedding_layers=False,  # none is adapted, and to find that out PEFT would ask the hub
        )
    model.get_base_model().save_pretrained(folder, state_dict=weights | _buffers(model))
    tokenizer.save_pretrained(folder)


def _buffers(model: PeftModel) -> dict[str, torch.Tensor]:
    """Those a checkpoint has, such as the expert biases of DeepSeek-V3's router."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {base_name(name): each.cpu() for name, each in model.state_dict().items() if name not in parameters}
