"""OpenRLHF's actor model, computing only what the loss reads: no padding, each prompt once, logits of actions."""

from types import SimpleNamespace

import torch
from deepspeed.accelerator import get_accelerator
from openrlhf.models import Actor

from openrlhf_math.grpo import shared_prefix_attention
from openrlhf_math.grpo.log_prob_head import LogProbHead
from openrlhf_math.grpo.packing import pack, unpack

Tensor = torch.Tensor
# An attention mask of four dimensions is taken as it is: no model builds one for a packed row.
NO_MASK = torch.empty(1, 1, 1, 1)


class PackedActor(Actor):
    """Takes and returns what `Actor` does, for one prompt and one completion in each row."""

    def __init__(self, pretrain_or_model, attn_implementation: str = "sdpa", ds_config=None, **kwargs) -> None:
        shared_prefix_attention.register()
        if get_accelerator().device_name() == "cpu":
            # OpenRLHF would load a ZeRO-3 model into shards, and its rotary frequencies into bfloat16, which moves
            # logits by up to 0.1. Without this every process loads the whole model; DeepSpeed shards it afterwards.
            ds_config = None
        super().__init__(pretrain_or_model, attn_implementation=attn_implementation, ds_config=ds_config, **kwargs)
        packs = attn_implementation == shared_prefix_attention.NAME and LogProbHead.fits(self.model)
        self.log_prob_head = LogProbHead(self.model, self.temperature) if packs else None

    def forward(
        self, sequences, action_mask=None, attention_mask=None, return_output=False, return_entropy=False, **kwargs
    ):
        """Log-probabilities of actions, float32 [batch, actions], and with `return_output` an object with `entropy`.

        sequences, attention_mask: [batch, tokens], padded on the right. action_mask: [batch, tokens - 1].
        """
        if self.log_prob_head is None or action_mask is None:
            return super().forward(
                sequences, action_mask, attention_mask,
                return_output=return_output, return_entropy=return_entropy, **kwargs,
            )  # fmt: skip
        packed = pack(sequences, attention_mask, action_mask, self.model.dtype)
        self.log_prob_head.targets = packed.targets
        try:
            output = self.model(
                packed.input_ids,
                position_ids=packed.positions,
                attention_mask=NO_MASK,
                logits_to_keep=packed.predicts,
                layout=packed.layout,
                use_cache=False,
            )
        finally:
            self.log_prob_head.targets = None
        log_probs, entropies = output.logits[0].unbind(dim=-1)
        log_probs = unpack(log_probs, packed)
        if not return_output:
            return log_probs
        return log_probs, SimpleNamespace(entropy=unpack(entropies, packed) if return_entropy else None)
