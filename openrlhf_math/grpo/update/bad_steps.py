"""Steps whose loss or gradient is not a number: they are skipped, counted, and end a run if several follow in a row.

DeepSpeed looks for NaN and infinity in the gradients of all ranks before it steps. Where it finds one, no rank steps:
weights, optimizer state and learning rate stay as they are.
"""

import json
import math
from pathlib import Path

import torch
from jaxtyping import Shaped
from safetensors.torch import save_file
from torch import Tensor


class BadSteps:
    """Counts skipped steps in a row. bound: how many end the run. folder: where the last one's batch is written."""

    def __init__(self, bound: int, folder: Path) -> None:
        self.bound, self.folder = bound, folder
        self.in_a_row = 0

    def observe(self, record: dict, experiences: list) -> None:
        """After each step. record: its metrics. experiences: its batch.

        Raises RuntimeError, with the batch written, when the bound is reached, and at once where a bad gradient was
        not skipped: the weights are then spoiled.
        """
        step = record["step"]
        if not record.get("skipped_steps"):
            self.in_a_row = 0
            if not math.isfinite(record["policy_loss"]) or not math.isfinite(record["grad_norm"]):
                raise RuntimeError(
                    f"step {step}: the loss is {record['policy_loss']} and the gradient norm {record['grad_norm']}, "
                    f"and DeepSpeed did not skip the step; its batch is in {self._write(step, experiences)}"
                )
            return
        self.in_a_row += 1
        if self.in_a_row >= self.bound:
            raise RuntimeError(
                f"step {step}: the loss or the gradient was NaN or infinite {self.in_a_row} times in a row "
                f"(--math.max_bad_steps {self.bound}) and the steps were skipped; the last one's batch is in "
                f"{self._write(step, experiences)}. Look there for what is not finite; else lower --actor.adam.lr"
            )

    def _write(self, step: int, experiences: list) -> Path:
        path = self.folder / f"bad_batch_step{step}.safetensors"
        write_batch(path, step, experiences)
        return path


def write_batch(path: Path, step: int, experiences: list) -> None:
    """What a step was trained on, as safetensors: one row a completion, micro batches padded to the longest.

    `sequences` int64 [completions, tokens] and `attention_mask` (0 where padded); of the same rows and one column less
    `action_mask`, `advantages`, `returns`, `rollout_log_probs`; `rewards` [completions]. The metadata has `step` and,
    as JSON lists, `prompts` and `labels`.
    """
    tensors = {}
    names = ("sequences", "attention_mask", "action_mask", "advantages", "returns", "rollout_log_probs")
    for name in names:
        parts = [part for experience in experiences if (part := getattr(experience, name, None)) is not None]
        if len(parts) == len(experiences):
            tensors[name] = padded(parts)
    rewards = [experience.rewards for experience in experiences]
    if all(part is not None for part in rewards):
        tensors["rewards"] = torch.cat(rewards).float()
    words = {name: [text for each in experiences for text in getattr(each, name)] for name in ("prompts", "labels")}
    metadata = {"step": str(step)} | {name: json.dumps(texts, ensure_ascii=False) for name, texts in words.items()}
    save_file(tensors, path, metadata)


def padded(parts: list[Shaped[Tensor, "_ _"]]) -> Shaped[Tensor, "rows columns"]:
    """Tensors below each other, with zeros on the right."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]).contiguous()
