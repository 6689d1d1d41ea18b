"""The trainer under a watchdog: which of its methods is which phase."""

import ray

from openrlhf_math.grpo.trainer import MathPPOTrainer
from openrlhf_math.grpo.watchdog import Watchdog

POLICY, ENGINES = "the policy's workers", "the vLLM engines"


class WatchedTrainer(MathPPOTrainer):
    """A run's trainer. watchdog: of this run, in the phase "start"."""

    def __init__(self, *args, watchdog: Watchdog, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.watchdog = self.samples_generator.watchdog = watchdog

    def fit(self, global_step: int = 0) -> None:
        self.watchdog.begin("train", "the next step")
        if note := ray.get(self.actor_model_group.async_run_method("note"))[0]:
            self.show.say(note)
        super().fit(global_step)
        self.watchdog.begin("save", f"{POLICY}, to save the model")

    def train_step(self, rollout_samples, global_step: int):
        with self.watchdog.phase("train", f"{POLICY}, to take a gradient step"):
            return super().train_step(rollout_samples, global_step)

    def broadcast_to_vllm(self) -> None:
        with self.watchdog.phase("sync", f"weights to go from {POLICY} to {ENGINES}"):
            super().broadcast_to_vllm()

    def save_logs_and_checkpoints(self, *args, **kwargs) -> None:
        with self.watchdog.phase("save", f"{ENGINES}' report and {POLICY}, to save a checkpoint"):
            super().save_logs_and_checkpoints(*args, **kwargs)

    def save_best_checkpoint(self, *args, **kwargs) -> None:
        with self.watchdog.phase("save", f"{POLICY}, to save the best checkpoint"):
            super().save_best_checkpoint(*args, **kwargs)

    def evaluate(self, *args, **kwargs) -> dict:
        with self.watchdog.phase("evaluate", self.samples_generator.waits_for):
            return super().evaluate(*args, **kwargs)
