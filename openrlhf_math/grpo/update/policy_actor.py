"""The policy actor: OpenRLHF's DeepSpeed actor with the on-policy loss and our weight transfer."""

import math
from functools import cached_property, partial
from typing import Any

import ray
import torch.distributed
from deepspeed.accelerator import get_accelerator
from openrlhf.trainer.ppo_utils import NaiveReplayBuffer
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ray import launcher, ppo_actor
from openrlhf.trainer.ray.launcher import ReferenceModelActor
from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer, PolicyModelActor
from openrlhf.utils.loss_utils import get_loss_batch_info

from openrlhf_math.colocation import layout
from openrlhf_math.colocation.layout import training_threads
from openrlhf_math.colocation.strategy import MathStrategy
from openrlhf_math.colocation.weight_transfer import WeightTransfer
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.faults.watchdog import answer_to_signal
from openrlhf_math.grpo.rollout.teacher import is_loaded
from openrlhf_math.grpo.settings import one_step_a_batch, only_advantages_teach
from openrlhf_math.grpo.update.engine_gap import ESS, GapTally, WeightTally
from openrlhf_math.grpo.update.loss import (
    FEWEST,
    LossTerms,
    OnPolicyLoss,
    PluggedLoss,
    TaughtLoss,
    corrected_share,
    never_zero,
    policy_loss,
)
from openrlhf_math.grpo.update.micro_batches import GroupReplayBuffer, SkippingReplayBuffer, prompt_numbers
from openrlhf_math.grpo.update.rollout_correction import AUTO, OFF
from openrlhf_math.modeling.packed_actor import SHARED, PackedActor
from openrlhf_math.patches.patch import substituted

UpstreamPolicyActor: Any = PolicyModelActor.__ray_metadata__.modified_class
UpstreamReferenceActor: Any = ReferenceModelActor.__ray_metadata__.modified_class


class MathActorTrainer(ActorPPOTrainer):
    """The training loop inside the policy actor."""

    actor_loss_fn: Any  # the loss module that upstream calls

    def __init__(self, strategy: MathStrategy, *args: Any, **kwargs: Any) -> None:
        with substituted(
            ppo_actor,
            NaiveReplayBuffer=self._replay_buffer_class(strategy.args),
            PolicyLoss=partial(policy_loss, strategy.args),
        ):
            super().__init__(strategy, *args, **kwargs)
        self.policy_loss = self.actor_loss_fn
        # `auto` knows how far a batch is off only after its step, unless its steps themselves move the policy away.
        self.watches_ess = self.args.math.objective.rollout_correction == AUTO and one_step_a_batch(self.args)
        self.low_ess = False
        self.correct_next(not self.watches_ess)
        self.terms = LossTerms(self.actor_loss_fn.token_level_loss)  # GSPO's is by completion whatever the flag says
        self.taught: TaughtLoss | None = None
        if teacher := self.args.math.teacher:
            self.actor_loss_fn = self.taught = TaughtLoss(self.actor_loss_fn, teacher.coef)
        self.policy_losses: list[float] = []  # of the micro-batches of a batch
        if one_step_a_batch(self.args):
            self.actor_loss_fn = OnPolicyLoss(self.actor_loss_fn)
        self.actor.balance_routers(self.aux_loss)
        self.note = self.actor.choose_path() if self.strategy.ring_attn_group is None else None
        self.replay_buffer.shares_prompts = self.actor.path == SHARED
        self.gaps, self.weights = GapTally(), WeightTally()

    @staticmethod
    def _replay_buffer_class(args: GRPOArguments) -> type[NaiveReplayBuffer]:
        if not args.math.shared_prefix:
            return NaiveReplayBuffer
        return SkippingReplayBuffer if only_advantages_teach(args) else GroupReplayBuffer

    def _init_vllm_sync_group(self, backend: str) -> None:
        """No group of upstream's: vLLM's weight transfer engine makes its own connection."""

    def ppo_train(self, kl_ctl: float) -> dict:
        """One pass over the batch. `skipped_steps`: optimizer steps without effect, the same on every rank."""
        engine = self.actor.model
        before = engine.skipped_steps
        self.policy_losses.clear()
        status = super().ppo_train(kl_ctl)
        if self.policy_losses:
            status["policy_loss"] = self.strategy.all_reduce(self._policy_loss())
        skipped = engine.skipped_steps - before
        if skipped:
            status["actor_grad_norm"] = math.nan  # DeepSpeed still has that of the last step it took
        add_up, highest = (partial(self.strategy.all_reduce, op=operation) for operation in ("sum", "max"))
        status |= self.gaps.take(add_up) | self.weights.take(add_up, highest)
        if self.watches_ess:
            status["rollout_corr/active"] = float(self.policy_loss.is_correction_level != OFF)
            self.correct_below(status.get(ESS, 1.0))
        return status | {"skipped_steps": float(skipped)}

    def correct_next(self, wanted: bool) -> None:
        """Whether the next batch's rollouts are corrected, if the flags say so at all."""
        self.policy_loss.is_correction_level = self.args.algo.advantage.is_correction_level if wanted else OFF

    def correct_below(self, ess: float) -> None:
        """With `auto`: decide on the next batch from the effective sample size of the last."""
        if self.watches_ess:
            self.low_ess = not ess >= self.args.math.objective.correct_below_ess
            self.correct_next(self.low_ess)

    def begin_batch(self, off_policy: bool) -> None:
        """With `auto`: correct a batch that other weights wrote, whatever its sample size may be."""
        if self.watches_ess:
            self.correct_next(off_policy or self.low_ess)

    def _policy_loss(self) -> float:
        """This process's policy loss of an optimizer step, their mean if there are several.

        With dynamic batches the micro-batches of a step add up to it; otherwise each is scaled as DeepSpeed, which
        divides by their number, wants it.
        """
        dynamic = self.args.train.dynamic_batch_enable
        steps = sum(self.replay_buffer.dynamic_optimizer_step) * self.max_epochs if dynamic else len(self.policy_losses)
        return sum(self.policy_losses) / steps

    def training_step(
        self, experience: Experience, kl_ctl: float, step: int, loss_batch_info: dict | None = None
    ) -> dict:
        if loss_batch_info is None:
            loss_batch_info = get_loss_batch_info(
                self.strategy, experience.action_mask, replay_buffer=self.replay_buffer, step=step, dynamic_batch=True
            )
        corrects = self.policy_loss.is_correction_level != OFF
        if corrects and experience.rollout_log_probs is None:
            raise RuntimeError(
                "the executor of --train.agent_func_path keeps no log-probabilities of the engine, so rollouts cannot "
                "be corrected; give --math.rollout_correction off, without --algo.advantage.is_correction_level"
            )
        if isinstance(self.policy_loss, PluggedLoss):
            self.policy_loss.group_ids = prompt_numbers(experience)
        if self.taught:
            self.taught.log_probs = experience.base_action_log_probs
        denominators = never_zero(loss_batch_info)
        if length := self.args.math.objective.loss_length:
            denominators["batch_num_tokens"] = denominators["global_batch_size"] * length
        learning_rate = self.actor_scheduler.get_last_lr()[0]
        with substituted(ppo_actor, aggregate_loss=self.terms):
            status = super().training_step(experience, kl_ctl, step, denominators)
        metrics, weights = status["metrics"], status["weights"]
        metrics["actor_lr"] = learning_rate  # of this step, OpenRLHF logs that of the next
        self.policy_losses.append(float(metrics["policy_loss"]))
        # OpenRLHF logs the micro-batch's share of the step's mean and weighs it by its tokens again.
        metrics |= dict(zip(self._term_names(), self.terms.means, strict=True))
        self.terms.means.clear()
        if self.taught:
            metrics["teacher/reverse_kl"], weights["teacher/reverse_kl"] = self.taught.reverse_kl, "token"
        # With several steps a batch, the old log-probabilities are of the policy that generated.
        on_policy = isinstance(self.actor_loss_fn, OnPolicyLoss)
        trained = self.actor_loss_fn.log_probs if on_policy else experience.action_log_probs
        if experience.rollout_log_probs is not None:
            compared = (trained, experience.rollout_log_probs, experience.action_mask)
            self.gaps.add(*compared)
            self.weights.add(*compared, corrected_share(self.policy_loss, *compared))
        if not status["num_action_tokens"]:  # all of it is left out: means over tokens are 0/0, and so would be theirs
            metrics |= {name: 0.0 for name, weight in weights.items() if weight == "token"}
            status["num_action_tokens"] = FEWEST
        return status

    def _term_names(self) -> list[str]:
        """The metrics of `self.terms`, in the order in which OpenRLHF computes them."""
        kl = ["kl"] if self.args.algo.kl.use_loss else []
        return kl + (["entropy_loss"] if self.args.actor.entropy_coef is not None else [])

    @cached_property
    def weight_transfer(self) -> WeightTransfer:
        return WeightTransfer.open(self.actor.model.module, self.vllm_engines, self.args, torch.distributed.get_rank())

    def broadcast_to_vllm(self) -> dict[str, float]:
        """Give every engine the newest weights. Returns the metrics of the transfer."""
        get_accelerator().empty_cache()  # the engines' memory comes from the same device
        report = self.weight_transfer.send()
        get_accelerator().empty_cache()
        return report

    def send_weights_to(self, numbers: list[int]) -> None:
        """Give these engines, started again, the newest weights, while the others may generate.

        The next time weights are sent, all engines shake hands again: the old handshake does not include the new ones.
        """
        engines = [self.vllm_engines[number] for number in numbers]
        WeightTransfer.open(self.actor.model.module, engines, self.args, torch.distributed.get_rank()).send()
        self.__dict__.pop("weight_transfer", None)


class ReportsMemory:
    """What the phase controller asks of an actor that DeepSpeed runs in."""

    def used_bytes(self) -> int:
        return layout.used_bytes(get_accelerator().device_name())

    def take_peak_bytes(self) -> int:
        return layout.take_peak_bytes(get_accelerator().device_name())


class MathPolicyActor(ReportsMemory, UpstreamPolicyActor):
    """One rank of the policy."""

    def note(self) -> str | None:
        """A sentence on how the model is trained, if it is not the way of most."""
        return self.trainer.note

    def leave_out_batch(self) -> dict[str, float]:
        """Instead of `fit`: take no step. OpenRLHF would keep the batch, and train on it when the policy is free."""
        self.trainer.replay_buffer.clear()
        return {"policy_loss": 0.0, "actor_grad_norm": 0.0}

    def correct_below(self, ess: float) -> None:
        """In a run that resumes: the effective sample size of the last batch, for `--math.rollout_correction auto`."""
        self.trainer.correct_below(ess)

    def begin_batch(self, off_policy: bool) -> None:
        """With `--math.overlap`, before each batch. off_policy: whether engines wrote any of it with older weights."""
        self.trainer.begin_batch(off_policy)

    def save_checkpoint(self, tag: str, client_states: dict | None = None, **metric: Any) -> None:
        """As OpenRLHF's. A batch that waits for its step is saved by the first process alone."""
        ours = (client_states or {}).get("math", {})
        if isinstance(ahead := ours.get("ahead"), ray.ObjectRef):
            ahead = ray.get(ahead) if self.strategy.is_rank_0() else None
            client_states = (client_states or {}) | {"math": ours | {"ahead": ahead}}
        super().save_checkpoint(tag, client_states, **metric)

    def broadcast_to_vllm(self) -> dict[str, float]:
        return self.trainer.broadcast_to_vllm()

    def send_weights_to(self, numbers: list[int]) -> None:
        self.trainer.send_weights_to(numbers)

    def init_model_from_pretrained(self, strategy: MathStrategy, *args: Any, **kwargs: Any) -> None:
        answer_to_signal()
        run = strategy.args
        if run.math.device == "cpu":
            torch.set_num_threads(training_threads(run.math.parameters, run.actor.num_gpus_per_node))
        with substituted(ppo_actor, ActorPPOTrainer=MathActorTrainer, Actor=PackedActor):
            super().init_model_from_pretrained(strategy, *args, **kwargs)


class MathReferenceActor(ReportsMemory, UpstreamReferenceActor):
    """The reference model or the teacher, with the policy's way to compute log-probabilities."""

    def init_model_from_pretrained(self, strategy: MathStrategy, pretrain: str) -> None:
        teacher = strategy.args.math.teacher
        with substituted(launcher, Actor=PackedActor):
            super().init_model_from_pretrained(strategy, teacher.model if is_loaded(teacher) else pretrain)
