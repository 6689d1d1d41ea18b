"""OpenRLHF's SFT trainer that also writes metrics.jsonl and reports its progress."""

import time
from collections.abc import Callable
from pathlib import Path

from openrlhf.trainer.sft_trainer import SFTTrainer

from openrlhf_math.grpo.metrics import append_jsonl


def recording_trainer(metrics: Path, report: Callable[[dict, int], None]) -> type[SFTTrainer]:
    """A trainer class that appends a record a step to `metrics` and calls `report(record, total steps)`."""

    class RecordingTrainer(SFTTrainer):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            self.started_at = time.time()

        def save_logs_and_checkpoints(self, args, global_step, step_bar, logs_dict=None, client_states=None):
            record = {
                "step": global_step,
                "loss": logs_dict["loss_mean"],
                "grad_norm": logs_dict["grad_norm"],
                "learning_rate": logs_dict["lr"],
                "seconds": round(time.time() - self.started_at, 3),
            }
            if self.strategy.is_rank_0():
                append_jsonl(metrics, record)
            total = len(self.train_dataloader) * self.epochs // self.strategy.accumulated_gradient
            report(record, total)
            super().save_logs_and_checkpoints(args, global_step, step_bar, logs_dict, client_states)

    return RecordingTrainer
