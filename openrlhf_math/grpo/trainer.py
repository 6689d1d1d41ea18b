"""The single controller: OpenRLHF's PPO trainer, which asks its collaborators at fixed points of a step.

`fit` is OpenRLHF's loop. A step of it calls, in this order, what this file overrides:

    samples_generator.generate_samples   a batch of graded rollouts (samples_generator.py); with --math.overlap the
                                         engines are asked for the next one
    train_step                           the engines leave the device, advantages, micro-batches of whole groups
      ppo_train                          the policy's states come back, a gradient step, they leave (policy_actor.py)
      broadcast_to_vllm                  the new weights go to the engines, which have finished what they were asked
    save_logs_and_checkpoints            records, guards, and a checkpoint if one is due
    evaluate, save_best_checkpoint       every --eval.steps
"""

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from openrlhf.trainer import ppo_trainer
from openrlhf.trainer.ppo_trainer import PPOTrainer
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.utils.logging_utils import init_logger
from transformers import set_seed

from openrlhf_math.checkpoints.folder import sync
from openrlhf_math.checkpoints.state import random_state, restore_random_state
from openrlhf_math.colocation.phases import Phases
from openrlhf_math.colocation.strategy import MathStrategy
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.faults.engine_recovery import EngineRecovery
from openrlhf_math.grpo.faults.stopping import Checkpointing, StopSignals
from openrlhf_math.grpo.faults.watchdog import Watchdog
from openrlhf_math.grpo.metrics import RECORDS, Display, length_metrics, step_record, tool_shares
from openrlhf_math.grpo.plan import rollouts_line
from openrlhf_math.grpo.problems.majority import agreement
from openrlhf_math.grpo.problems.problem_order import ProblemOrder
from openrlhf_math.grpo.rollout.batches import Batch
from openrlhf_math.grpo.rollout.kept_rollouts import KeptRollouts
from openrlhf_math.grpo.rollout.replay import FLAG as REPLAY
from openrlhf_math.grpo.rollout.samples_generator import MathSamplesGenerator, ReplayGenerator, left_to_phases
from openrlhf_math.grpo.rollout.ungraded import Ungraded
from openrlhf_math.grpo.settings import old_log_probs_needed, steps_a_batch
from openrlhf_math.grpo.update import engine_gap
from openrlhf_math.grpo.update.bad_steps import BadSteps
from openrlhf_math.grpo.update.engine_gap import ESS
from openrlhf_math.grpo.update.experience import MathExperienceMaker
from openrlhf_math.grpo.update.micro_batches import balance_groups
from openrlhf_math.patches.patch import substituted
from openrlhf_math.runs import records
from openrlhf_math.runs.records import append_jsonl
from openrlhf_math.runs.rollouts import files_at
from openrlhf_math.seeds import derived_seed

logger = init_logger(__name__)
UpstreamTrainer: Any = PPOTrainer.__ray_metadata__.modified_class
POLICY, ENGINES = "the policy's workers", "the vLLM engines"

# What OpenRLHF and we give to a checkpoint; DeepSpeed gives it back among its own states. `math` is ours.
CLIENT_STATES = ("episode", "global_step", "total_consumed_prompts", "data_loader_state_dict", "math")


class MathTrainer(UpstreamTrainer):
    """show: where steps are shown. stop: the signals that end the run. watchdog: of this run, in the phase "start".

    batches: rollout batches in all, if dynamic filtering replaces no group. trained: whether the policy took a step.
    trained_at: Unix time when it last did. waited: seconds for the engines to finish what they were asked ahead.
    """

    args: GRPOArguments  # of the run
    prompts_dataloader: Any
    best_eval_metric_value: float
    trained_at = waited = 0.0

    def __init__(
        self,
        pretrain: str,
        strategy: MathStrategy,
        *args: Any,
        show: Display,
        stop: StopSignals,
        watchdog: Watchdog,
        **kwargs: Any,
    ) -> None:
        set_seed(strategy.args.train.seed)  # the order of problems is drawn from it
        super().__init__(pretrain, strategy, *args, **kwargs)
        self.show, self.stop, self.watchdog = show, stop, watchdog
        self.trained = False
        ours, prompts = self.args.math, self.prompts_dataloader.dataset
        self.batches = len(prompts) // self.args.rollout.batch_size * self.args.train.num_episodes
        self.max_steps = self.batches * steps_a_batch(self.args)  # OpenRLHF counts prompts that fill no batch

        engines = self.vllm_engines or []  # none with --math.replay
        self.engines = EngineRecovery(engines, self.actor_model_group, ours.faults.engine_restarts)
        # With a critic, two models share the device: upstream's order of loading them stays.
        own_states = ("ds",) if self.critic_model_group is None else ()
        self.phases = Phases(
            engines,
            self.actor_model_group,
            engines_sleep=self.args.vllm.enable_sleep,
            states_offload=self.args.ds.enable_sleep and bool(own_states),
            others=[group for group in (self.reference_model_group,) if group],
            timeout=2 * ours.faults.phase_seconds["sync"],  # the watchdog comes first, and its message says more
            engines_stay=bool(ours.overlap),
            recover=self.engines.check,
        )
        self.problems = ProblemOrder(self.args, prompts.prompts)
        self.prompts_dataloader = self.problems.put_into(self.prompts_dataloader, strategy)
        self.rollouts = KeptRollouts(self.args, self.tokenizer)
        self.ungraded = Ungraded(engines, ours.run_dir / "ungraded.jsonl")
        self.bad_steps = BadSteps(ours.faults.max_bad_steps, ours.run_dir)
        self.checkpointing = Checkpointing(
            self.args.ckpt.save_steps, not self.args.ckpt.disable_ds, stop, self._write_checkpoint
        )
        generator: Callable[..., MathSamplesGenerator] = MathSamplesGenerator
        if ours.replay:
            files = list(files_at(REPLAY, Path(ours.replay)).values())
            generator, self.batches = partial(ReplayGenerator, files=files), len(files)
            self.max_steps = self.batches * steps_a_batch(self.args)
        self.samples_generator = generator(
            strategy,
            self.prompts_dataloader,
            self.eval_dataloader,
            engines,
            engines=self.engines,
            phases=self.phases,
            problems=self.problems,
            ungraded=self.ungraded,
            watchdog=watchdog,
            show=show,
        )
        self.experience_maker = MathExperienceMaker(
            self.actor_model_group,
            self.critic_model_group,
            self.reward_model_group,
            self.reference_model_group,
            self.kl_ctl,
            strategy,
            self.tokenizer,
        )
        self.args = left_to_phases(self.args, "vllm", *own_states)
        if not old_log_probs_needed(self.args):
            logger.info("One gradient step a batch, no KL in the reward: the pass for old log-probabilities is skipped")

    def fit(self, global_step: int = 0) -> None:
        """Raises RuntimeError if no optimizer step was taken, so that no model is saved as though it were trained."""
        self.watchdog.begin("train", "the next step")
        if note := ray.get(self.actor_model_group.async_run_method("note"))[0]:
            self.show.say(note)
        prompts, batch_size = len(self.prompts_dataloader.dataset), self.args.rollout.batch_size
        if prompts % batch_size and not self.args.math.replay:
            self.show.say(rollouts_line(prompts, batch_size, self.args.train.num_episodes))
        with self.checkpointing.last_step_saved():
            super().fit(global_step)
        if not self.trained:
            raise RuntimeError(
                "no optimizer step was taken, so no model is saved: no batch of "
                f"{self.args.rollout.batch_size} groups with a gradient was found, or every step was skipped"
            )
        self.watchdog.begin("save", f"{POLICY}, to save the model")

    # A step, in the order in which OpenRLHF's loop comes by.

    def train_step(self, rollout_samples: list[Experience], global_step: int) -> tuple[dict, int]:
        """Returns the step's metrics and its number."""
        batch = self.samples_generator.taken
        self.args.rollout.max_new_tokens = batch.limit  # penalties go by it
        behind = {} if self.args.math.replay else batch.off_policy(global_step)
        taught = " and the teacher" if self.args.math.teacher else ""
        with self.watchdog.phase("train", f"{POLICY}{taught}, to take a gradient step"):
            begun, started = time.time(), time.perf_counter()
            self.engines.check()
            self.phases.train()
            if self.args.math.overlap:
                late = behind["off_policy_steps"] > 0
                ray.get(self.actor_model_group.async_run_method("begin_batch", off_policy=late))
            sleep_seconds = time.perf_counter() - started
            self.stop.hold()  # until the step is recorded: in between, policy and records are not of one step
            balance = partial(balance_groups, seed=derived_seed(f"{self.args.train.seed}\0groups\0{global_step}"))
            with substituted(ppo_trainer, balance_experiences=balance):
                status, global_step = super().train_step(rollout_samples, global_step)
            self.trained |= status.get("skipped_steps", math.inf) < steps_a_batch(self.args)
            if self.args.math.teacher:
                status["timing/teacher"] = self.experience_maker.teacher_seconds
            status["timing/sleep"] = sleep_seconds  # the other moves are within what upstream times
            if self.args.math.overlap:
                status["timing/rollout_wait"] = self.waited
                status["timing/broadcast"] -= self.waited
            append_jsonl(self.args.math.run_dir / "problems.jsonl", {"step": global_step, **batch.drawn})
            status |= batch.metrics | behind | self._timeline(batch, begun)
            if batch.limit is not None:
                status["max_new_tokens"] = batch.limit
            return status, global_step

    def _timeline(self, batch: Batch, begun: float) -> dict[str, float]:
        """Of this step, seconds since the start of the run. begun: Unix time when it began to train."""
        zero = self.args.math.started_at
        times = {"timeline/train_begin": begun - zero, "timeline/train_end": self.trained_at - zero}
        if batch.span:
            times |= dict(zip(("timeline/rollout_begin", "timeline/rollout_end"), batch.span, strict=True))
        return times

    def _compute_rollout_stats(self, experiences: list[Experience]) -> dict:
        """Means over all completions of the batch; those the policy actor gives leave out the skipped ones."""
        stats = super()._compute_rollout_stats(experiences)
        self.batch = experiences
        self.rollouts.note(experiences)
        by_policy = {"kl"} if self.args.algo.kl.use_loss else set()  # while it trains; here it is 0 then
        for name in experiences[0].info.keys() - by_policy:
            stats[name] = torch.cat([experience.info[name] for experience in experiences]).float().mean().item()
        for name in ("response_length", "total_length", "truncated"):
            stats[name] = torch.cat([getattr(each, name) for each in experiences]).float().mean().item()
        stats |= tool_shares(stats) | agreement(stats)
        if all("accuracy" in each.info for each in experiences):
            correct = torch.cat([each.info["accuracy"] for each in experiences]) > 0
            lengths = torch.cat([each.response_length for each in experiences])
            stats |= length_metrics(lengths.tolist(), correct.tolist())
        teaches = [
            each.action_mask if self.args.math.teacher else each.advantages * each.action_mask for each in experiences
        ]
        idle = [~each.any(dim=1) for each in teaches]
        stats["zero_advantage_rate"] = torch.cat(idle).float().mean().item()
        return stats

    def ppo_train(self, global_steps: int) -> dict:
        self.phases.reload()
        status = super().ppo_train(global_steps)
        if global_steps <= self.args.critic.freezing_steps:
            status |= ray.get(self.actor_model_group.async_run_method(method_name="leave_out_batch"))[0]
        self.engines.version, self.trained_at = global_steps + 1, time.time()
        self.phases.offload()
        return status

    def broadcast_to_vllm(self) -> None:
        if not self.vllm_engines:
            return
        started = time.perf_counter()
        self.samples_generator.complete()
        self.waited = time.perf_counter() - started
        with self.watchdog.phase("sync", f"weights to go from {POLICY} to {ENGINES}"):
            self.engines.check()
            self.phases.transfer()
            self.engines.send_version()

    def save_logs_and_checkpoints(
        self, global_step: int, logs_dict: dict | None = None, client_states: dict | None = None
    ) -> None:
        """Record the step, stop a run that no longer learns, save a checkpoint if one is due."""
        assert client_states is not None  # OpenRLHF's loop gives them
        with self.watchdog.phase("save", f"{ENGINES}' report and {POLICY}, to save a checkpoint"):
            logs_dict = dict(logs_dict or {}) | self.phases.take_report()
            logs_dict["engine_restarts"] = self.engines.take_restarts()
            logs_dict["timing/rollout_files"] = self._keep_rollouts(global_step)
            record = step_record(global_step, logs_dict, time.time() - self.args.math.started_at)
            append_jsonl(self.args.math.run_dir / "metrics.jsonl", record)
            self.ungraded.write(global_step, self.samples_generator.taken.ungraded)
            self.show(record, self.batches)
            self._guard(record)  # before the step is in a checkpoint
            samples = {key: logs_dict[key] for key in ("generated_samples",) if key in logs_dict}
            with substituted(self.args.ckpt, save_steps=math.inf):  # the logs alone
                super().save_logs_and_checkpoints(global_step, record | samples, client_states)
            client_states["math"] = {  # in the object that upstream keeps with its best checkpoint
                "curriculum": self.problems.name,
                "completion_limit": self.samples_generator.limit.state_dict(),
                "kl_coefficient": self.kl_ctl.value,
                "random": random_state(device=False),
                "ess": record.get(ESS, 1.0),
                "ahead": (state := self.samples_generator.state()) and ray.put(state),  # one copy for all processes
            }
            self.checkpointing.end_step(global_step, client_states)

    def _keep_rollouts(self, step: int) -> float:
        """Returns the seconds it took."""
        started = time.perf_counter()
        batch = self.samples_generator.taken
        self.rollouts.training(step, batch.samples)
        batch.samples = []
        return time.perf_counter() - started

    def _guard(self, record: dict) -> None:
        """Stop a run that no longer learns from its own policy."""
        if record.get("off_policy_steps") == 0:  # else the engine's weights are older, as they should be
            engine_gap.check(record, self.args.math.max_logprob_gap)
        self.bad_steps.observe(record, self.batch)

    def _write_checkpoint(self, step: int, client_states: dict) -> None:
        """As OpenRLHF does, which would log the step, too. Raises CheckpointError."""
        started = time.perf_counter()
        if self.tensorboard_logger:
            self.tensorboard_logger.writer.flush()
        for path in map(self.args.math.run_dir.joinpath, RECORDS):
            if path.exists():
                sync(path)
        with substituted(self.args.ckpt, save_steps=step), substituted(self.args.logger, logging_steps=math.inf):
            super().save_logs_and_checkpoints(step, {}, client_states)
        logger.info(f"Checkpoint of step {step}: {time.perf_counter() - started:.2f} s")

    def evaluate(self, global_step: int, **generate_kwargs: Any) -> dict:
        """Upstream's evaluation on `--eval.dataset`. Takes no random number from the training.

        The completion limit is the last of the run, so that evaluations can be compared.
        """
        generate_kwargs["max_new_tokens"] = self.args.math.completion_limit.last
        with self.watchdog.phase("evaluate", self.samples_generator.waits_for):
            state = random_state(device=False)
            logs = super().evaluate(global_step, **generate_kwargs)
            self.rollouts.evaluation(global_step, self.samples_generator.take_evaluated())
            restore_random_state(state)
            return logs

    def save_best_checkpoint(self, eval_metrics: dict, global_step: int, client_states: dict | None = None) -> None:
        """A record in eval.jsonl says that this is done, too."""
        with self.watchdog.phase("save", f"{POLICY}, to save the best checkpoint"):
            super().save_best_checkpoint(eval_metrics, global_step, client_states)
            append_jsonl(self.args.math.run_dir / "eval.jsonl", {"step": global_step, **eval_metrics})

    # The beginning of a run, and of one that resumes.

    def init_checkpoint_states(self) -> dict:
        """What a resumed run continues from. Raises UserError if the checkpoint is of another curriculum."""
        states = super().init_checkpoint_states()
        step = states["global_step"]
        self.show.begin(step + 1)
        if self.tensorboard_logger:
            records.forget_after(self.tensorboard_logger.writer, step)
        if not step:
            # The engines have these weights already; a model whose weights cannot reach them is refused here, before a
            # step. With a checkpoint, upstream sends them.
            self.broadcast_to_vllm()
            self.phases.take_report()  # of no step
            return states
        ours = states["math"]
        if ours["curriculum"] != self.problems.name:
            raise UserError(
                f"--math.curriculum {self.problems.name}: the checkpoint is of a run with {ours['curriculum']}, "
                "whose order cannot be continued; give the same"
            )
        self.trained = True
        self.stop.saved = self.engines.version = step
        self.kl_ctl.value = ours["kl_coefficient"]
        ray.get(self.actor_model_group.async_run_method("correct_below", ess=ours.get("ess", 1.0)))
        self.samples_generator.limit.restore(step, ours["completion_limit"])
        self.samples_generator.before_first = partial(self._resume, states)
        return states

    def _resume(self, states: dict) -> None:
        """What is left to do of a checkpoint's step, and what comes next as it would have come."""
        step = self.samples_generator.step = states["global_step"]
        self._evaluate_if_owed(step, {name: states[name] for name in CLIENT_STATES})
        self.samples_generator.resume(step, states["episode"], states["math"].get("ahead"))
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

    def restore_best_checkpoint_state(self, checkpoint_states: dict) -> None:
        """The best so far may have come after the checkpoint of its step."""
        super().restore_best_checkpoint_state(checkpoint_states)
        for record in self._evaluations():
            if key := self._detect_eval_metric_key(record):
                self._latest_eval_metric_value = record[key]
                self.best_eval_metric_value = max(self.best_eval_metric_value, record[key])

    def _evaluations(self) -> list[dict]:
        return records.read_objects(self.args.math.run_dir / "eval.jsonl")
