"""From graded rollouts to experiences: old log-probabilities where needed, advantages from the registry."""

import itertools
from functools import partial

import ray
import torch
from openrlhf.models.utils import compute_reward
from openrlhf.trainer.ppo_utils import experience_maker
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker

from openrlhf_math.colocation.compose import substituted
from openrlhf_math.grpo.advantages import GROUP_BASELINE, Estimator, all_equal, find_estimator
from openrlhf_math.grpo.group_rewards import by_batch_spread, decoupled, part_rewards, shaped_rewards
from openrlhf_math.grpo.micro_batches import fill, packed_tokens, split
from openrlhf_math.grpo.settings import data_parallel_ranks, old_log_probs_needed
from openrlhf_math.grpo.truncation import mask_truncated


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

    def _dispatch_forward(self, group, sync_condition, **kwargs):
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
        if estimator is None:
            self._estimate_as_upstream(name, groups, experiences)
        else:
            self._estimate(estimator, groups, experiences)
        if self.args.math.truncated == "mask":
            mask_truncated(experiences)
        return experiences

    def _estimate_as_upstream(self, name: str, groups: torch.Tensor, experiences: list[Experience]) -> None:
        """By OpenRLHF's own estimators, from rewards that are penalised and clipped.

        OpenRLHF would clip what its estimators make of the rewards. Where only differences within a group count,
        groups of equal rewards are given as 0, or `group_norm` would divide rounding by rounding.
        """
        if name in GROUP_BASELINE:
            groups = torch.where(all_equal(groups), 0.0, groups)
        own = [experience.rewards for experience in experiences]
        for experience, rewards in zip(experiences, of_experiences(groups, experiences), strict=True):
            experience.rewards = rewards
        with (
            substituted(experience_maker, apply_length_penalties=lambda *_: None),
            substituted(self.args.reward, clip_range=None),
        ):
            super().compute_advantages_and_returns(experiences)
        for experience, rewards in zip(experiences, own, strict=True):
            experience.rewards = rewards

    def _estimate(self, estimator: Estimator, groups: torch.Tensor, experiences: list[Experience]) -> None:
        advantages = of_experiences(self._advantages(estimator, groups, experiences), experiences)
        spreads = of_experiences(groups.std(dim=-1, keepdim=True).expand_as(groups), experiences)
        for experience, advantage, spread in zip(experiences, advantages, spreads, strict=True):
            # One advantage a completion, on its last token; with a KL penalty each token adds its own.
            per_token = compute_reward(advantage, self.kl_ctl.value, experience.kl, experience.action_mask)
            experience.returns = self.get_cumulative_returns(per_token, experience.action_mask, gamma=1.0)
            experience.advantages = experience.returns.clone()
            experience.info["return"] = per_token.sum(dim=-1)
            experience.info["group_reward_std"] = spread
            experience.kl = None

    def _advantages(self, estimator: Estimator, groups: torch.Tensor, experiences: list[Experience]) -> torch.Tensor:
        """Of the rewards' sum, or with `--math.normalise_rewards each` of its parts. groups, returned: float32
        [groups, completions]."""
        parts = self.args.math.reward_parts
        if not (parts and parts.each):
            return estimator(groups)
        values = zip(*(part_rewards(each, self.args) for each in experiences), strict=True)
        rewards = [by_group(list(part), experiences, self.args.rollout.n_samples_per_prompt) for part in values]
        return by_batch_spread(decoupled(rewards, [weight for _, weight in parts.weights], estimator))


def by_group(values: list[torch.Tensor], experiences: list[Experience], group_size: int) -> torch.Tensor:
    """One [batch] tensor for each experience in the order of the rollout, [groups, group_size]."""
    order = list(itertools.chain.from_iterable(experience.index for experience in experiences))
    flat = torch.cat(values)
    ordered = torch.empty_like(flat)
    ordered[order] = flat
    return ordered.reshape(-1, group_size)


def of_experiences(values: torch.Tensor, experiences: list[Experience]) -> list[torch.Tensor]:
    """The inverse of `by_group`: [groups, group_size] values as one [batch] tensor for each experience."""
    flat = values.reshape(-1)
    return [flat[experience.index] for experience in experiences]
