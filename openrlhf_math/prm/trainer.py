"""OpenRLHF's SFT trainer over step labels: what is evaluated is how well right and wrong steps are separated."""

from dataclasses import asdict

import torch
from torch import distributed
from torch.utils.data import DataLoader

from openrlhf_math.prm.measures import step_measures
from openrlhf_math.runs.records import append_jsonl
from openrlhf_math.sft.trainer import RecordingTrainer


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
