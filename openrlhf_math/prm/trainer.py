"""OpenRLHF's SFT trainer over step labels: what is evaluated is how well right and wrong steps are separated."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import distributed
from torch.utils.data import DataLoader

from openrlhf_math.runs.records import append_jsonl
from openrlhf_math.sft.trainer import RecordingTrainer


@dataclass(frozen=True, slots=True)
class StepMeasures:
    """Of probabilities that steps are right, against their labels. A step counts as right where its label is over 0.5.

    loss      cross entropy, nats a step
    accuracy  share of steps that a threshold of 0.5 tells right
    auc       probability that a right step has more than a wrong one; NaN unless there are both
    right     share of steps that are right: the accuracy of always saying so
    """

    steps: int
    loss: float
    accuracy: float
    auc: float
    right: float


def step_measures(probabilities: Sequence[float], labels: Sequence[float]) -> StepMeasures:
    """probabilities, labels: of steps, 0 to 1, at least one."""
    p, y = np.asarray(probabilities, dtype=float), np.asarray(labels, dtype=float)
    sure = np.clip(p, 1e-12, 1 - 1e-12)
    right = y > 0.5
    return StepMeasures(
        steps=len(y),
        loss=float(-(y * np.log(sure) + (1 - y) * np.log1p(-sure)).mean()),
        accuracy=float(((p > 0.5) == right).mean()),
        auc=auc(p, right),
        right=float(right.mean()),
    )


def auc(scores: Float64[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Area under the ROC curve: the Mann-Whitney statistic over its greatest value, ties counting half.

    NaN unless there are both kinds.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[inverse]  # from 1, equal scores share the mean of theirs
    n, m = int(np.sum(positive)), int(len(positive) - np.sum(positive))
    if not n or not m:
        return float("nan")
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


class StepTrainer(RecordingTrainer):
    """Its loss is upstream's: minus the log-likelihoods that `StepJudge` gives, a mean over the steps of a batch."""

    def evaluate(self, eval_dataloader: DataLoader, steps: int = 0) -> None:
        """`StepMeasures` of the evaluation set, to eval.jsonl and TensorBoard."""
        self.model.eval()
        device = next(self.model.parameters()).device
        found: list[tuple[float, float]] = []  # probability and label of a step
        with torch.no_grad():
            for batch in eval_dataloader:
                inputs, labels, mask = (part.to(device).squeeze(1) for part in batch)
                reads = mask[:, :-1].bool()
                probabilities = self.model.judge(inputs, labels)[reads][:, 1].exp()
                found += zip(probabilities.tolist(), labels[:, :-1][reads].tolist(), strict=True)
        self.model.train()
        everyones: list = [None] * distributed.get_world_size()
        distributed.all_gather_object(everyones, found)
        if self.strategy.is_rank_0():
            measures = asdict(step_measures(*zip(*sum(everyones, []), strict=True)))
            append_jsonl(self.evaluations, {"step": steps} | measures)
            if self._tensorboard:
                for name in ("loss", "accuracy", "auc"):
                    self._tensorboard.add_scalar(f"eval/{name}", measures[name], steps)
