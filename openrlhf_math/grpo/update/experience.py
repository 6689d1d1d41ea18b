"""From graded rollouts to experiences: old log-probabilities where needed, advantages from the registry."""

import itertools
import time
from functools import partial
from typing import Any

import ray
import torch
from jaxtyping import Float32, Shaped
from openrlhf.models.utils import compute_reward
from openrlhf.trainer.ppo_utils import experience_maker
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from torch import Tensor

from openrlhf_math.grpo.advantages import GROUP_BASELINE, Estimator, Rewards, all_equal, find_estimator
from openrlhf_math.grpo.problems.completion_limit import mask_truncated
from openrlhf_math.grpo.rollout.dynamic_filtering import by_batch_spread, decoupled, part_rewards, shaped_rewards
from openrlhf_math.grpo.rollout.teacher import is_loaded
from openrlhf_math.grpo.rollout.teacher_endpoint import log_probs_of
from openrlhf_math.grpo.settings import data_parallel_ranks, old_log_probs_needed
from openrlhf_math.grpo.update.micro_batches import fill, packed_tokens, split
from openrlhf_math.patches.patch import substituted


class MathExperienceMaker(RemoteExperienceMaker):
    def split_rollout_samples(self, rollout_samples: list[Experience]) -> list[Experience]:
        """Batches for the passes over a rollout: whole groups, as many for each training process."""
        if not self.args.math.shared_prefix:
            return super().split_rollout_samples(rollout_samples)
        for number, sample in enumerate(rollout_samples):
            sample.index = [number]
        group_size = self.args.rollout.n_samples_per_prompt
        numbers = range(len(rollout_samples))
        groups = [list(numbers[start : start + group_size]) for start in numbers[::group_size]]
        ranks = data_parallel_ranks(self.args)
        batches = fill(groups, partial(packed_tokens, rollout_samples), self.args.rollout.max_tokens_per_gpu)
        numbered = split(batches, -(-len(batches) // ranks) * ranks)
        return [
            Experience.concat_experiences([rollout_samples[number] for number in batch], self.tokenizer.pad_token_id)
            for batch in numbered
        ]

    @torch.no_grad()
    def make_experience(self, samples_list: list[Experience]) -> list[Experience]:
        """With a teacher, its log-probabilities are in `base_action_log_probs`, where the loss looks for them."""
        if self.args.math.teacher is None:
            return super().make_experience(samples_list)
        with substituted(self, initial_model_group=None):  # no KL to the teacher in the reward
            super().make_experience(samples_list)
        started = time.perf_counter()
        for samples, log_probs in zip(samples_list, self._teacher_log_probs(samples_list), strict=True):
            samples.base_action_log_probs = log_probs
        self.teacher_seconds = time.perf_counter() - started
        return samples_list

    def _teacher_log_probs(self, samples_list: list[Experience]) -> list[Float32[Tensor, "_ _"]]:
        """Of each batch, [batch, actions]."""
        if not is_loaded(self.args.math.teacher):
            return log_probs_of(self.args.math.teacher, samples_list)
        names = ("sequences", "action_mask", "attention_mask")
        inputs = {name: [getattr(samples, name) for samples in samples_list] for name in names}
        train, ds = self.args.train, self.args.ds
        shares_devices = train.colocate_all or train.colocate_actor_ref
        references = self._dispatch_forward(self.initial_model_group, shares_devices, **inputs)
        return self._flatten_results(references, ds.ring_attn_size * ds.tensor_parallel_size)

    def _dispatch_forward(self, group: Any, sync_condition: bool, **kwargs: Any) -> list:
        if group is self.actor_model_group and not old_log_probs_needed(self.args):
            # The loss takes them from its own forward pass. Upstream wants something of the right shape.
            zeros = [torch.zeros_like(mask, dtype=torch.float32) for mask in kwargs["action_mask"]]
            return [ray.put(zeros)]
        return super()._dispatch_forward(group, sync_condition, **kwargs)

    @torch.no_grad()
    def compute_advantages_and_returns(self, experiences: list[Experience]) -> list[Experience]:
        """Fill `advantages` and `returns`, float32 [batch, actions], of every experience."""
        name = self.args.algo.advantage.estimator
        estimator = find_estimator(name)
        shaped = shaped_rewards(experiences, self.args)
        groups = by_group(shaped, experiences, self.args.rollout.n_samples_per_prompt)
        teacher = self.args.math.teacher
        if teacher and not teacher.reward_coef:
            self._estimate(torch.zeros_like, groups, experiences)
        elif estimator is None:
            self._estimate_as_upstream(name, groups, experiences)
        else:
            self._estimate(estimator, groups, experiences)
        if teacher:
            for experience in experiences:
                experience.advantages *= teacher.reward_coef
        if self.args.math.truncated == "mask":
            mask_truncated(experiences)
        return experiences

    def _estimate_as_upstream(self, name: str, groups: Rewards, experiences: list[Experience]) -> None:
        """By OpenRLHF's own estimators, from rewards that are penalised and clipped.

        OpenRLHF would clip what its estimators make of the rewards. Where only differences within a group count,
        groups of equal rewards are given as 0, or `group_norm` would divide rounding by rounding.
        """
        if name in GROUP_BASELINE:
            groups = torch.where(all_equal(groups), 0.0, groups)
        raw_rewards = [experience.rewards for experience in experiences]
        for experience, rewards in zip(experiences, of_experiences(groups, experiences), strict=True):
            experience.rewards = rewards
        with (
            substituted(experience_maker, apply_length_penalties=lambda *_: None),
            substituted(self.args.reward, clip_range=None),
        ):
            super().compute_advantages_and_returns(experiences)
        for experience, rewards in zip(experiences, raw_rewards, strict=True):
            experience.rewards = rewards

    def _estimate(self, estimator: Estimator, groups: Rewards, experiences: list[Experience]) -> None:
        advantages = of_experiences(self._advantages(estimator, groups, experiences), experiences)
        for experience, advantage in zip(experiences, advantages, strict=True):
            # One advantage a completion, on its last token; with a KL penalty each token adds its own.
            per_token = compute_reward(advantage, self.kl_ctl.value, experience.kl, experience.action_mask)
            experience.returns = self.get_cumulative_returns(per_token, experience.action_mask, gamma=1.0)
            experience.advantages = experience.returns.clone()
            experience.info["return"] = per_token.sum(dim=-1)
            experience.kl = None
        if groups.shape[1] > 1:
            spreads = of_experiences(groups.std(dim=-1, keepdim=True).expand_as(groups), experiences)
            for experience, spread in zip(experiences, spreads, strict=True):
                experience.info["group_reward_std"] = spread

    def _advantages(self, estimator: Estimator, groups: Rewards, experiences: list[Experience]) -> Rewards:
        """Of the rewards' sum, or with `--math.normalise_rewards each` of its parts."""
        parts = self.args.math.reward_parts
        if not (parts and parts.each):
            return estimator(groups)
        values = zip(*(part_rewards(each, self.args) for each in experiences), strict=True)
        rewards = [by_group(list(part), experiences, self.args.rollout.n_samples_per_prompt) for part in values]
        return by_batch_spread(decoupled(rewards, [weight for _, weight in parts.weights], estimator))


def by_group(
    values: list[Shaped[Tensor, " _"]], experiences: list[Experience], group_size: int
) -> Shaped[Tensor, "groups {group_size}"]:
    """One tensor for each experience, a value a completion, in the order of the rollout."""
    order = list(itertools.chain.from_iterable(experience.index for experience in experiences))
    flat = torch.cat(values)
    ordered = torch.empty_like(flat)
    ordered[order] = flat
    return ordered.reshape(-1, group_size)


def of_experiences(
    values: Shaped[Tensor, "groups group_size"], experiences: list[Experience]
) -> list[Shaped[Tensor, " _"]]:
    """The inverse of `by_group`: one tensor for each experience, a value a completion."""
    flat = values.reshape(-1)
    return [flat[experience.index] for experience in experiences]
