"""The single controller: OpenRLHF's PPO trainer with our experience maker, metrics and guards."""

import math
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import ray
import torch
from openrlhf.trainer import ppo_trainer
from openrlhf.trainer.ppo_trainer import compute_eval_metrics
from openrlhf.utils.logging_utils import init_logger

from openrlhf_math.colocation.compose import substituted
from openrlhf_math.colocation.phases import Phases
from openrlhf_math.errors import UserError
from openrlhf_math.grpo import engine_gap
from openrlhf_math.grpo.bad_steps import BadSteps
from openrlhf_math.grpo.completion_limit import CompletionLimit
from openrlhf_math.grpo.curriculum_settings import UNIFORM
from openrlhf_math.grpo.determinism import DeterministicSamples
from openrlhf_math.grpo.display import Display
from openrlhf_math.grpo.dynamic_filtering import FilteringGenerator
from openrlhf_math.grpo.engine_recovery import EngineRecovery, RecoveringGenerator
from openrlhf_math.grpo.experience import MathExperienceMaker
from openrlhf_math.grpo.metrics import append_jsonl, step_record
from openrlhf_math.grpo.micro_batches import balance_groups
from openrlhf_math.grpo.plan import rollouts_line
from openrlhf_math.grpo.problem_order import ProblemOrder
from openrlhf_math.grpo.resumable import ResumableTrainer
from openrlhf_math.grpo.seeds import derived_seed
from openrlhf_math.grpo.settings import old_log_probs_needed, steps_a_batch
from openrlhf_math.grpo.truncation import as_wrong
from openrlhf_math.grpo.undecided import Undecided
from openrlhf_math.grpo.watchdog import Watchdog
from openrlhf_math.grpo.whole_batches import WholeBatches

logger = init_logger(__name__)


def left_to_phases(args: SimpleNamespace, *sections: str) -> SimpleNamespace:
    """The settings without `enable_sleep` in these sections, so that upstream moves nothing: the phases do."""
    awake = {name: SimpleNamespace(**{**vars(getattr(args, name)), "enable_sleep": False}) for name in sections}
    return SimpleNamespace(**{**vars(args), **awake})


class MathSamplesGenerator(WholeBatches, DeterministicSamples, RecoveringGenerator, FilteringGenerator):
    phases: Phases  # the trainer's
    problems: ProblemOrder  # the trainer's
    watchdog: Watchdog  # the trainer's
    undecided: Undecided  # the trainer's
    show: Display  # the trainer's

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.before_first: Callable[[], None] | None = None  # of a run that goes on from a checkpoint
        self.args = left_to_phases(self.args, "vllm")
        self.tokenizer = None  # engines have their own; sending ours with every prompt costs more than its answer

    def generate_samples(self, **generate_kwargs):
        before_first, self.before_first = self.before_first, None
        if before_first:
            before_first()
        with self.watchdog.phase("rollout", self.waits_for):
            samples, pass_rate, consumed, exhausted = super().generate_samples(**generate_kwargs)
        if exhausted and (count := self.take_left_out()):
            found = " with groups that teach something" if self.args.algo.dynamic_filtering_enable else ""
            self.show.say(f"end of an episode: its last {count} prompts fill no batch{found} and are left out")
        return samples, pass_rate, consumed, exhausted

    def generate_eval_samples(self, **generate_kwargs):
        self.evaluating = True
        try:
            return super().generate_eval_samples(**generate_kwargs)
        finally:
            self.evaluating = False

    def _process_response_into_experience(self, response: dict, **generate_kwargs):
        """Of every rollout, before dynamic sampling drops its group."""
        self.undecided.note(response)
        if not self.evaluating:
            if self.args.math.truncated == "wrong":
                response = as_wrong(response)
            self.problems.note(response["prompt"], is_correct(response, self.args.math.rewards.correct_reward))
        return super()._process_response_into_experience(response, **generate_kwargs)

    def _generate_vllm(self, *args, **kwargs):
        """For training and evaluation alike, and only when samples left from an earlier call do not do."""
        self.engines.check()
        self.phases.rollout()
        batch = super()._generate_vllm(*args, **kwargs)
        self.undecided.end_batch(self.step)
        return batch


def is_correct(response: dict, correct_reward: float) -> bool:
    """Whether a rollout solved its problem. An agent of one's own may tell no more than its reward."""
    accuracy = (response.get("extra_logs") or {}).get("accuracy")
    return float(response.get("reward") or 0.0) >= correct_reward if accuracy is None else accuracy > 0


def accuracy_metrics(eval_dataloader, samples: list, n_samples_per_prompt: int) -> dict[str, float]:
    """Upstream's pass@1 and pass@n, which count rewards, with 1 for a correct answer and 0 for any other."""
    for sample in samples:
        sample.rewards = sample.info.get("accuracy", sample.rewards)
    return compute_eval_metrics(eval_dataloader, samples, n_samples_per_prompt)


class MathPPOTrainer(ResumableTrainer):
    """show: where the run's steps are shown.

    batches: rollout batches in all, if dynamic filtering replaces no group. trained: whether the policy took a step.
    """

    def __init__(self, *args, show: Display, **kwargs) -> None:
        with substituted(ppo_trainer, RemoteExperienceMaker=MathExperienceMaker, SamplesGenerator=MathSamplesGenerator):
            super().__init__(*args, **kwargs)
        self.show = self.samples_generator.show = show
        self.trained = False
        prompts = len(self.prompts_dataloader.dataset)
        self.batches = prompts // self.args.rollout.batch_size * self.args.train.num_episodes
        self.max_steps = self.batches * steps_a_batch(self.args)  # OpenRLHF counts prompts that fill no batch
        # With a critic, two models share the device: upstream's order of loading them stays.
        own_states = ("ds",) if self.critic_model_group is None else ()
        self.phases = Phases(
            self.vllm_engines,
            self.actor_model_group,
            engines_sleep=self.args.vllm.enable_sleep,
            states_offload=self.args.ds.enable_sleep and bool(own_states),
            others=[group for group in (self.reference_model_group,) if group],
            timeout=2 * self.args.math.faults.phase_seconds["sync"],  # the watchdog comes first, and tells more
            recover=lambda: self.engines.check(),  # which is made below
        )
        self.problems = ProblemOrder(self.args, self.prompts_dataloader.dataset.prompts)
        self.prompts_dataloader = self.problems.put_into(self.prompts_dataloader, self.strategy)
        self.samples_generator.prompts_dataloader = self.prompts_dataloader
        self.samples_generator.problems = self.problems
        self.samples_generator.phases = self.phases
        restarts = self.args.math.faults.engine_restarts
        self.engines = EngineRecovery(self.vllm_engines, self.actor_model_group, restarts)
        self.samples_generator.engines = self.engines
        self.undecided = Undecided(self.vllm_engines, self.args.math.run_dir / "undecided.jsonl")
        self.samples_generator.undecided = self.undecided
        self.bad_steps = BadSteps(self.args.math.faults.max_bad_steps, self.args.math.run_dir)
        self.limit = CompletionLimit(self.args.math.completion_limit)
        self._set_limit(self.limit.tokens)
        self.args = left_to_phases(self.args, "vllm", *own_states)
        if not old_log_probs_needed(self.args):
            logger.info("One gradient step a batch, no KL in the reward: the pass for old log-probabilities is skipped")

    def _set_limit(self, tokens: int | None) -> None:
        """Of the completions to come, and of the penalties that go by it."""
        self.generate_kwargs["max_new_tokens"] = self.args.rollout.max_new_tokens = tokens

    def init_checkpoint_states(self) -> dict:
        states = super().init_checkpoint_states()
        if states["global_step"]:
            self.trained = True
            ours = states.get("math") or {"curriculum": UNIFORM, "completion_limit": None}
            if ours["curriculum"] != self.problems.name:
                raise UserError(
                    f"--math.curriculum {self.problems.name}: the checkpoint is of a run with {ours['curriculum']}, "
                    "whose order cannot be continued; give the same"
                )
            self.limit.restore(states["global_step"], ours["completion_limit"])
            self._set_limit(self.limit.tokens)
        else:
            # The engines have these weights already; a model whose weights cannot reach them is refused here, before a
            # step. With a checkpoint, upstream sends them.
            self.broadcast_to_vllm()
            self.phases.take_report()  # of no step
        return states

    def fit(self, global_step: int = 0) -> None:
        """Raises RuntimeError if no optimizer step was taken, so that no model is saved as though it were trained."""
        prompts, batch_size = len(self.prompts_dataloader.dataset), self.args.rollout.batch_size
        if prompts % batch_size:
            self.show.say(rollouts_line(prompts, batch_size, self.args.train.num_episodes))
        super().fit(global_step)
        if not self.trained:
            raise RuntimeError(
                "no optimizer step was taken, so no model is saved: no batch of "
                f"{self.args.rollout.batch_size} groups that teach something was found, or every step was skipped"
            )

    def train_step(self, rollout_samples, global_step: int):
        started = time.perf_counter()
        self.engines.check()
        self.phases.train()
        sleep_seconds = time.perf_counter() - started
        balance = partial(balance_groups, seed=derived_seed(self.args.train.seed, "groups", global_step))
        with substituted(ppo_trainer, balance_experiences=balance):
            status, global_step = super().train_step(rollout_samples, global_step)
        self.trained |= status.get("skipped_steps", math.inf) < steps_a_batch(self.args)
        status["timing/sleep"] = sleep_seconds  # the other moves lie within what upstream times
        drawn, metrics = self.problems.end_step()
        append_jsonl(self.args.math.run_dir / "problems.jsonl", {"step": global_step, **drawn})
        status |= metrics
        if self.limit.tokens is not None:
            status["max_new_tokens"] = self.limit.tokens
        self.limit.observe(global_step, status["truncated"])
        self._set_limit(self.limit.tokens)
        return status, global_step

    def ppo_train(self, global_steps: int) -> dict:
        self.phases.reload()
        status = super().ppo_train(global_steps)
        if global_steps <= self.args.critic.freezing_steps:
            status |= ray.get(self.actor_model_group.async_run_method(method_name="leave_out_batch"))[0]
        self.phases.offload()
        return status

    def broadcast_to_vllm(self) -> None:
        self.engines.check()
        self.phases.transfer()

    def _compute_rollout_stats(self, experiences) -> dict:
        """Means over all completions of the batch; those the policy actor gives leave out the skipped ones."""
        stats = super()._compute_rollout_stats(experiences)
        self.batch = experiences
        by_policy = {"kl"} if self.args.algo.kl.use_loss else set()  # while it trains; here it is 0 then
        for name in experiences[0].info.keys() - by_policy:
            stats[name] = torch.cat([experience.info[name] for experience in experiences]).float().mean().item()
        for name in ("response_length", "total_length", "truncated"):
            stats[name] = torch.cat([getattr(each, name) for each in experiences]).float().mean().item()
        idle = [~(each.advantages * each.action_mask).any(dim=1) for each in experiences]
        stats["idle_rate"] = torch.cat(idle).float().mean().item()
        return stats

    def save_logs_and_checkpoints(self, global_step: int, logs_dict=None, client_states=None) -> None:
        logs_dict = dict(logs_dict or {}) | self.phases.take_report()
        logs_dict["engine_restarts"] = self.engines.take_restarts()
        record = step_record(global_step, logs_dict, time.time() - self.args.math.started_at)
        append_jsonl(self.args.math.run_dir / "metrics.jsonl", record)
        self.undecided.collect(global_step)
        self.show(record, self.batches)
        if client_states is not None:  # the same object that upstream keeps with its best checkpoint
            client_states["math"] = {"curriculum": self.problems.name, "completion_limit": self.limit.state_dict()}
        samples = {key: logs_dict[key] for key in ("generated_samples",) if key in logs_dict}
        self._guard(record)  # before the step is in a checkpoint
        super().save_logs_and_checkpoints(global_step, record | samples, client_states)

    def evaluate(self, global_step, **generate_kwargs):
        """Upstream's evaluation on `--eval.dataset`, by accuracy instead of by reward.

        The completion limit is the last of the run, so that evaluations can be compared.
        """
        generate_kwargs["max_new_tokens"] = self.args.math.completion_limit.last
        with substituted(ppo_trainer, compute_eval_metrics=accuracy_metrics):
            return super().evaluate(global_step, **generate_kwargs)

    def _guard(self, record: dict) -> None:
        """Stop a run that no longer learns from its own policy."""
        if not self.args.train.async_enable:  # else the engine's weights are older, as they should be
            engine_gap.check(record, self.args.math.max_logprob_gap)
        self.bad_steps.observe(record, self.batch)
