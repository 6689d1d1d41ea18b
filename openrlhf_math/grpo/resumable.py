"""What lets a run go on as if it had not been killed: the controller's state in every checkpoint, and back again."""

import math
import time
from functools import partial

from openrlhf.trainer.ppo_trainer import PPOTrainer
from openrlhf.utils.logging_utils import init_logger
from transformers import set_seed

from openrlhf_math.checkpoints.manifest import sync
from openrlhf_math.checkpoints.random_state import random_state, restore_random_state
from openrlhf_math.colocation.compose import substituted
from openrlhf_math.grpo import records
from openrlhf_math.grpo.metrics import append_jsonl
from openrlhf_math.grpo.save_schedule import SaveSchedule
from openrlhf_math.grpo.stopping import StopSignals

logger = init_logger(__name__)
UpstreamTrainer = PPOTrainer.__ray_metadata__.modified_class

# What OpenRLHF and we give to a checkpoint; DeepSpeed gives it back among states of its own.
CLIENT_STATES = ("episode", "global_step", "total_consumed_prompts", "data_loader_state_dict", "math")


class ResumableTrainer(UpstreamTrainer):
    """OpenRLHF's trainer. stop: the signals that end the run. `math` in a checkpoint's client states is ours."""

    def __init__(self, pretrain, strategy, *args, stop: StopSignals, **kwargs) -> None:
        set_seed(strategy.args.train.seed)  # the order of problems is drawn from it
        super().__init__(pretrain, strategy, *args, **kwargs)
        self.stop = stop
        self.schedule = SaveSchedule(self.args.ckpt.save_steps)
        self.saves = self.args.ckpt.save_steps != math.inf and not self.args.ckpt.disable_ds
        self._unsaved: tuple[int, dict] | None = None  # the last step, if it is in none

    def fit(self, global_step: int = 0) -> None:
        """If a signal ends the run, the last whole step is saved first."""
        try:
            super().fit(global_step)
        except KeyboardInterrupt:
            if self.stop.number is not None and self._unsaved and self.saves:
                self.stop.hold()
                self._save(*self._unsaved)
            raise

    def train_step(self, rollout_samples, global_step: int):
        self.stop.hold()  # until the step is recorded: in between, policy and records are not of one step
        status, global_step = super().train_step(rollout_samples, global_step)
        self.samples_generator.step = global_step
        return status, global_step

    def save_logs_and_checkpoints(self, global_step: int, logs_dict=None, client_states=None) -> None:
        with substituted(self.args.ckpt, save_steps=math.inf):  # the logs alone
            super().save_logs_and_checkpoints(global_step, logs_dict, client_states)
        client_states["math"] |= {"kl_coefficient": self.kl_ctl.value, "random": random_state(device=False)}
        self._unsaved = global_step, client_states
        if self.schedule.due(global_step) or (self.saves and self.stop.number is not None):
            self._save(global_step, client_states)
        self.stop.release()

    def _save(self, step: int, client_states: dict) -> None:
        """As OpenRLHF does, which would log the step, too. Raises CheckpointError."""
        started = time.monotonic()
        if self.tensorboard_logger:
            self.tensorboard_logger.writer.flush()
        for path in map(self.args.math.run_dir.joinpath, records.FILES):
            if path.exists():
                sync(path)
        with substituted(self.args.ckpt, save_steps=step), substituted(self.args.logger, logging_steps=math.inf):
            super().save_logs_and_checkpoints(step, {}, client_states)
        self.stop.saved, self._unsaved = step, None
        seconds = time.monotonic() - started
        self.schedule.saved(seconds)
        logger.info(f"Checkpoint of step {step}: {seconds:.2f} s")

    def init_checkpoint_states(self) -> dict:
        states = super().init_checkpoint_states()
        if self.tensorboard_logger:
            records.forget_after(self.tensorboard_logger.writer, states["global_step"])
        if states["global_step"]:
            self.samples_generator.step = states["global_step"]
            self.stop.saved = states["global_step"]
            self.kl_ctl.value = states["math"]["kl_coefficient"]
            self.samples_generator.before_first = partial(self._take_up, states)
        return states

    def _take_up(self, states: dict) -> None:
        """What is left to do of a checkpoint's step, and what comes next as it would have come."""
        self._evaluate_if_owed(states["global_step"], {name: states[name] for name in CLIENT_STATES})
        generator = self.samples_generator
        generator._dataloader_iter, generator._sample_buffer = iter(self.prompts_dataloader), []
        restore_random_state(states["math"]["random"])  # an iterator draws, too

    def _evaluate_if_owed(self, step: int, client_states: dict) -> None:
        """The evaluation of a step comes after its checkpoint, so a kill may have come between."""
        done = any(record["step"] == step for record in self._evaluations())
        if not self.eval_dataloader or step % self.args.eval.steps or done:
            return
        wanted = {
            "temperature": self.args.eval.temperature,
            "n_samples_per_prompt": self.args.eval.n_samples_per_prompt,
        }
        self.save_best_checkpoint(self.evaluate(step, **self.generate_kwargs | wanted), step, client_states)

    def evaluate(self, global_step, **generate_kwargs):
        """Takes no random number from the training."""
        state = random_state(device=False)
        logs = super().evaluate(global_step, **generate_kwargs)
        restore_random_state(state)
        return logs

    def save_best_checkpoint(self, eval_metrics, global_step, client_states=None) -> None:
        """A record in eval.jsonl says that this is done, too."""
        super().save_best_checkpoint(eval_metrics, global_step, client_states)
        append_jsonl(self.args.math.run_dir / "eval.jsonl", {"step": global_step, **eval_metrics})

    def restore_best_checkpoint_state(self, checkpoint_states) -> None:
        """The best so far may have come after the checkpoint of its step."""
        super().restore_best_checkpoint_state(checkpoint_states)
        for record in self._evaluations():
            if key := self._detect_eval_metric_key(record):
                self._latest_eval_metric_value = record[key]
                self.best_eval_metric_value = max(self.best_eval_metric_value, record[key])

    def _evaluations(self) -> list[dict]:
        return records.read_records(self.args.math.run_dir / "eval.jsonl")
