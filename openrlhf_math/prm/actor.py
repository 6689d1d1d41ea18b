"""The process reward model as OpenRLHF's trainer and DeepSpeed strategy take a model."""

import torch
from deepspeed.accelerator import get_accelerator
from jaxtyping import Bool, Float32, Int64
from openrlhf.models import Actor
from openrlhf.utils.utils import convert_to_torch_dtype
from transformers.integrations import HfDeepSpeedConfig

from openrlhf_math.modeling import SHARED_PREFIX, shared_prefix_attention
from openrlhf_math.modeling.packed_actor import ROWS, SHARED, unwrapped
from openrlhf_math.modeling.packing import pack
from openrlhf_math.modeling.probe import Probe, Reference, evaluating
from openrlhf_math.modeling.shared_prefix_attention import packed_row
from openrlhf_math.prm.dataset import PADDING
from openrlhf_math.prm.model import Qwen2ForProcessRewardModel

Tensor = torch.Tensor


class StepJudge(Actor):
    """A padded batch goes through the model as one row of its real tokens, and only steps have logits."""

    def __init__(
        self, model: str, attn_implementation: str, param_dtype: str, ds_config: dict, **unused: object
    ) -> None:
        """model: directory or hub name of a Qwen2, with a score head or without one (then random)."""
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
        self.path = SHARED if attn_implementation == SHARED_PREFIX else ROWS
        self.config = self.model.config

    def balance_routers(self, wanted: bool) -> None:
        """Qwen2 has none."""

    def choose_path(self) -> str | None:
        """As `PackedActor.choose_path`: on the real weights, rows without padding give what single sequences do."""
        device, dtype = next(self.model.parameters()).device, self.model.dtype
        probe = Probe.of(self.config.vocab_size, device)
        labels = torch.where(probe.attention_mask.bool(), -1.0, PADDING)
        labels[:, :-1][probe.action_mask] = 1.0
        with evaluating(self):
            reference = Reference.of(self.model, lambda: self._apart(probe.sequences, labels)[..., 1].float(), dtype)
            verdict = reference.judge(self.judge(probe.sequences, labels)[probe.action_mask][..., 1])
            if verdict.right:
                return None
            self.path = ROWS
            name = type(unwrapped(self.model)).__name__
            return f"{name}: each sequence has its own row, a packed row differs {verdict}"

    def forward(
        self,
        sequences: Int64[Tensor, "batch tokens"],
        attention_mask: Float32[Tensor, "batch tokens"],
        return_output: bool = False,
        **unused: object,
    ) -> Float32[Tensor, "batch tokens-1"] | tuple[Float32[Tensor, "batch tokens-1"], None]:
        """Log-likelihoods of labels, 0 where there is none.

        attention_mask: the labels, see `StepDataset`; OpenRLHF's trainer hands its
        batch's second tensor to the model under this name. A label y means y times right and 1 - y times wrong:
        y log p + (1 - y) log(1 - p), cross entropy's negative.
        """
        labels = attention_mask
        log_probs = self.judge(sequences, labels)
        labels = labels[:, :-1].clamp(min=0)
        likelihood = (1 - labels) * log_probs[..., 0] + labels * log_probs[..., 1]
        return (likelihood, None) if return_output else likelihood

    def judge(
        self, sequences: Int64[Tensor, "batch tokens"], labels: Float32[Tensor, "batch tokens"]
    ) -> Float32[Tensor, "batch tokens-1 2"]:
        """Log-probabilities of wrong and right, 0 where a token has no label."""
        real, reads = labels != PADDING, labels[:, :-1] >= 0
        if self.path == ROWS:
            return _scattered(self._apart(sequences, labels), reads)
        packed = pack(sequences, real, reads)
        with packed_row(packed.layout):
            logits = self.model(
                packed.input_ids,
                read=packed.predicts,
                position_ids=packed.positions,
                attention_mask=packed.counts,
            )
        return _scattered(logits.log_softmax(dim=-1), packed.actions)

    def _apart(
        self, sequences: Int64[Tensor, "batch tokens"], labels: Float32[Tensor, "batch tokens"]
    ) -> Float32[Tensor, "reads 2"]:
        """Log-probabilities at the reads, row by row, one sequence without padding at a time."""
        found = []
        for sequence, row in zip(sequences, labels, strict=True):
            length = int((row != PADDING).sum())
            read = (row[: length - 1] >= 0).nonzero()[:, 0]
            found.append(self.model(sequence[None, :length], read=read).log_softmax(dim=-1))
        return torch.cat(found)


def _scattered(
    values: Float32[Tensor, "reads 2"], where: Bool[Tensor, "batch columns"]
) -> Float32[Tensor, "batch columns 2"]:
    """The values where they belong, 0 elsewhere."""
    padded = torch.zeros(*where.shape, values.shape[-1], dtype=values.dtype, device=values.device)
    return padded.masked_scatter(where[..., None], values)
