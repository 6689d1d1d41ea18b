"""OpenRLHF's SFT trainer for process reward models: its model, its dataset, and what it evaluates."""

from collections.abc import Sequence
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float32, Int64, Shaped
from openrlhf.models import actor as upstream
from torch import distributed
from torch.nn.functional import logsigmoid
from torch.utils.data import DataLoader, Dataset

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.modeling import SHARED_PREFIX
from openrlhf_math.modeling.packed_actor import ROWS, SHARED, PackedActor, unwrapped
from openrlhf_math.modeling.packing import pack
from openrlhf_math.modeling.probe import Probe
from openrlhf_math.modeling.shared_prefix_attention import packed_row
from openrlhf_math.patches.patch import substituted
from openrlhf_math.prm.forms import Form
from openrlhf_math.prm.measures import step_measures
from openrlhf_math.prm.model import read_at
from openrlhf_math.rerank.steps import Encoded
from openrlhf_math.sft.trainer import RecordingTrainer, counted_once

Tensor = torch.Tensor
SPREAD = 2.0  # of the log-odds at the tokens of a probe, as their standard deviation
WHY_ALONE = "with rows of --data.max_len tokens, what it computes of one depends on the others in its batch"


class StepJudge(PackedActor):
    """A padded batch goes through the model as one row of its real tokens, and only steps have logits.

    Models for which that is wrong are given one sequence at a time.
    """

    def __init__(
        self,
        model: str,
        attn_implementation: str = SHARED_PREFIX,
        ds_config: dict | None = None,
        *,
        form: Form,
        longest: int,
        **options: Any,
    ) -> None:
        """model: directory or hub name of a base, with a head of its form or without one (then random). longest: most
        tokens of a row. options: of OpenRLHF's Actor."""
        with substituted(upstream, AutoModelForCausalLM=SimpleNamespace(from_pretrained=form.load)):
            super().__init__(model, attn_implementation, ds_config, **options)
        self.sharpness = 1.0
        # Decided for all batches alike: processes call a model in shards equally often.
        self.packs = longest <= self.family.longest_alike and self.family.longest_packed_row == torch.inf
        if not self.packs:
            self.path = ROWS

    def forward(  # type: ignore[override]  # the arguments of OpenRLHF's SFT trainer, which knows no action mask
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
        reads = labels[:, :-1] >= 0
        log_probs = self._logits(sequences, labels != PADDING, reads).log_softmax(dim=-1)
        padded = torch.zeros(*reads.shape, 2, dtype=log_probs.dtype, device=log_probs.device)
        return padded.masked_scatter(reads[..., None], log_probs)

    def _logits(
        self,
        sequences: Int64[Tensor, "batch tokens"],
        real: Bool[Tensor, "batch tokens"],
        reads: Bool[Tensor, "batch tokens-1"],
    ) -> Float32[Tensor, "reads 2"]:
        """At the reads, row by row."""
        if self.path == SHARED:
            packed = pack(sequences, real, reads)
            self._attend_with(SHARED_PREFIX)
            with packed_row(packed.layout):
                return self._read(
                    packed.input_ids, packed.predicts, position_ids=packed.positions, attention_mask=packed.counts
                )
        found = []
        for sequence, length, read in zip(sequences, real.sum(dim=1).tolist(), reads, strict=True):
            self._attend_with(self.rows_attention)
            found.append(self._read(sequence[None, : length - 1], read.nonzero()[:, 0]))  # the last is never read
        return torch.cat(found)

    def _read(
        self, tokens: Int64[Tensor, "1 tokens"], places: Int64[Tensor, " reads"], **inputs: Tensor
    ) -> Float32[Tensor, "reads 2"]:
        with read_at(unwrapped(self.model), places):
            return self.model(tokens, use_cache=False, **inputs).logits[0]

    def _look_at_head(self, probe: Probe) -> None:
        """The log-odds of a new head hardly differ from token to token: enlarged, they show a wrong path."""
        log_odds = probe.one_at_a_time(self._model_log_odds)
        if not log_odds.isfinite().all():
            raise ValueError("its logits are not finite, as weights of a damaged checkpoint give them")
        self.sharpness = SPREAD / max(log_odds.std().item(), 1e-6)

    def _model_log_odds(self, sequence: Int64[Tensor, "1 tokens"]) -> Float32[Tensor, " tokens-1"]:
        """Of right against wrong, with the model's own code."""
        self._attend_with("eager")
        return _log_odds(self.model(sequence[:, :-1], use_cache=False).logits[0])

    def _model_log_probs(self, sequence: Int64[Tensor, "1 tokens"]) -> Float32[Tensor, " tokens-1"]:
        return logsigmoid(self.sharpness * self._model_log_odds(sequence))

    def _path_log_probs(self, probe: Probe) -> Float32[Tensor, " actions"]:
        logits = self._logits(probe.sequences, probe.attention_mask.bool(), probe.action_mask)
        return logsigmoid(self.sharpness * _log_odds(logits))

    def _why_rows(self) -> str:
        return super()._why_rows() if self.packs else WHY_ALONE


def _log_odds(logits: Float32[Tensor, "tokens 2"]) -> Float32[Tensor, " tokens"]:
    return logits[:, 1] - logits[:, 0]


class Rows(Protocol):
    """A dataset with `problem`, `steps` and `labels`, as `rows.Solution`; none longer than the context."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict: ...


Row = tuple[Int64[Tensor, "1 tokens"], Float32[Tensor, "1 tokens"], Float32[Tensor, "1 tokens"]]
Batch = tuple[Int64[Tensor, "batch 1 longest"], Float32[Tensor, "batch 1 longest"], Float32[Tensor, "batch 1 longest"]]
# In place of a label: a token that has none, and padding.
NO_LABEL, PADDING = -1.0, -2.0


class StepDataset(Dataset):
    """Takes the place of OpenRLHF's SFTDataset: rows of three tensors.

    Its trainer hands the first two to the model and the third, 1 where something is to be learned, to the loss. It
    leaves out the third's last column, at which a language model has nothing to predict: a row ends with a token
    more than is read.
    """

    def __init__(
        self, rows: Rows, tokenizer: Tokenizer, max_length: int, strategy: object, *, form: Form, **unused: object
    ) -> None:
        form.prepare(tokenizer, None)
        self.rows, self.tokenizer, self.form = rows, tokenizer, form

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        """Token ids, labels (0 to 1, NO_LABEL, PADDING), the mask of labels."""
        row = self.rows[index]
        return tensors(self.form.encode(self.tokenizer, row["problem"], row["steps"]), row["labels"])

    def collate_fn(
        self, items: Sequence[tuple[Tensor, Tensor, Tensor]]
    ) -> tuple[
        Int64[Tensor, "batch 1 longest"], Float32[Tensor, "batch 1 longest"], Float32[Tensor, "batch 1 longest"]
    ]:
        """Padded on the right; the model takes the padding out again."""
        longest = max(ids.shape[1] for ids, _, _ in items)
        return (
            torch.stack([_padded(ids, longest, 0) for ids, _, _ in items]),
            torch.stack([_padded(labels, longest, PADDING) for _, labels, _ in items]),
            torch.stack([_padded(mask, longest, 0.0) for _, _, mask in items]),
        )


def tensors(encoded: Encoded, labels: Sequence[float | None]) -> Row:
    """A solution as `StepDataset.__getitem__` returns it. labels: one for each position that is read."""
    ids = torch.tensor([[*encoded.ids, encoded.ids[0]]])
    values = torch.full(ids.shape, NO_LABEL)
    values[0, encoded.read] = torch.tensor([NO_LABEL if label is None else float(label) for label in labels])
    return ids, values, (values >= 0).float()


def _padded(row: Shaped[Tensor, "1 tokens"], length: int, value: float) -> Shaped[Tensor, "1 {length}"]:
    return torch.nn.functional.pad(row, (0, length - row.shape[1]), value=value)


class StepTrainer(RecordingTrainer):
    """Its loss is upstream's: minus the log-likelihoods that `StepJudge` gives, a mean over the steps of a batch."""

    def evaluate(self, eval_dataloader: DataLoader, steps: int = 0) -> None:
        """`StepMeasures` of the evaluation set."""
        self.model.eval()
        device = next(self.model.parameters()).device
        found: list[tuple[float, float]] = []  # probability and label of a step
        with torch.no_grad():
            for batch in counted_once(eval_dataloader):
                inputs, labels, mask = (part.to(device).squeeze(1) for part in batch)
                reads = mask[:, :-1].bool()
                probabilities = self.model.judge(inputs, labels)[reads][:, 1].exp()
                found += zip(probabilities.tolist(), labels[:, :-1][reads].tolist(), strict=True)
        self.model.train()
        everyones: list = [None] * distributed.get_world_size()
        distributed.all_gather_object(everyones, found)
        if self.strategy.is_rank_0():
            measures = asdict(step_measures(*zip(*sum(everyones, []), strict=True)))
            self.record_evaluation({"step": steps} | measures, ("loss", "accuracy", "auc"))
