"""The process reward model as OpenRLHF's trainer and DeepSpeed strategy take a model."""

import torch
from deepspeed.accelerator import get_accelerator
from openrlhf.models import Actor
from openrlhf.utils.utils import convert_to_torch_dtype
from transformers.integrations import HfDeepSpeedConfig

from openrlhf_math.modeling import SHARED_PREFIX, shared_prefix_attention
from openrlhf_math.modeling.packing import pack
from openrlhf_math.modeling.shared_prefix_attention import packed_row
from openrlhf_math.prm.dataset import PADDING
from openrlhf_math.prm.model import Qwen2ForProcessRewardModel

Tensor = torch.Tensor


class StepJudge(Actor):
    """A padded batch goes through the model as one row of its real tokens, and only steps have logits."""

    def __init__(self, model: str, attn_implementation: str, param_dtype: str, ds_config: dict, **unused) -> None:
        """model: directory or hub name of a Qwen2, with a score head or without one, which is then drawn anew."""
        shared_prefix_attention.register()
        sharded = ds_config["zero_optimization"]["stage"] == 3 and get_accelerator().device_name() != "cpu"
        # Transformers loads a model into shards while such an object lives; on the CPU see `PackedActor`.
        sharding = HfDeepSpeedConfig(ds_config) if sharded else None
        super().__init__(
            Qwen2ForProcessRewardModel.from_pretrained(
                model, dtype=convert_to_torch_dtype(param_dtype), attn_implementation=attn_implementation
            )
        )
        del sharding
        self.packs_prefixes = attn_implementation == SHARED_PREFIX

    def forward(self, sequences: Tensor, attention_mask: Tensor, return_output: bool = False, **unused):
        """Log-likelihoods of labels, float32 [batch, tokens - 1], 0 where there is none.

        sequences: int64 [batch, tokens]. attention_mask: the labels, see `StepDataset`; OpenRLHF's trainer hands its
        batch's second tensor to the model under this name. A label y stands for y times right and 1 - y times wrong:
        y log p + (1 - y) log(1 - p), cross entropy's negative.
        """
        labels = attention_mask
        log_probs = self.judge(sequences, labels)
        labels = labels[:, :-1].clamp(min=0)
        likelihood = (1 - labels) * log_probs[..., 0] + labels * log_probs[..., 1]
        return (likelihood, None) if return_output else likelihood

    def judge(self, sequences: Tensor, labels: Tensor) -> Tensor:
        """Log-probabilities of wrong and right, float32 [batch, tokens - 1, 2], 0 where a token has no label."""
        real, reads = labels != PADDING, labels[:, :-1] >= 0
        if not self.packs_prefixes:
            return _scattered(self._row(sequences, real, reads), reads)
        packed = pack(sequences, real, reads)
        with packed_row(packed.layout):
            logits = self.model(
                packed.input_ids,
                read=packed.predicts,
                position_ids=packed.positions,
                attention_mask=packed.counts,
            )
        return _scattered(logits.log_softmax(dim=-1), packed.actions)

    def _row(self, sequences: Tensor, real: Tensor, reads: Tensor) -> Tensor:
        """Log-probabilities at the reads, [reads, 2], row by row. Rows lie one behind another; where positions begin
        anew, attention does too: transformers sees to that, with flash-attention's packed kernel where it has one."""
        positions = (real.cumsum(dim=1) - 1)[real]
        read = torch.nn.functional.pad(reads, (0, 1))[real].nonzero()[:, 0]
        logits = self.model(sequences[real][None], read=read, position_ids=positions[None])
        return logits.log_softmax(dim=-1)


def _scattered(values: Tensor, where: Tensor) -> Tensor:
    """values [reads, 2] to [batch, tokens, 2], 0 elsewhere."""
    padded = torch.zeros(*where.shape, values.shape[-1], dtype=values.dtype, device=values.device)
    return padded.masked_scatter(where[..., None], values)
