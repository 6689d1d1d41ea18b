"""A rollout batch is whole: prompts that cannot fill one are not generated for, and counted."""

from collections.abc import Iterator
from typing import Any

from openrlhf.trainer.ppo_utils import samples_generator
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator

from openrlhf_math.colocation.compose import substituted

collect = samples_generator._collect_prompt_batch


class WholeBatches(SamplesGenerator):
    """OpenRLHF's, which would train an episode's last prompts in a smaller batch, with a share of the step size
    that the schedule and gradient accumulation are not made for.

    left_out: prompts at the end of the episode that fill no batch.
    """

    left_out = 0
    evaluating = False

    def generate_samples(self, **generate_kwargs: Any) -> tuple[list, float | None, int, bool]:
        """As OpenRLHF's, but the samples are a whole batch or none."""
        samples, pass_rate, consumed, exhausted = super().generate_samples(**generate_kwargs)
        group_size = self.args.rollout.n_samples_per_prompt
        if len(samples) < self.args.rollout.batch_size * group_size:
            self.left_out += consumed  # dynamic filtering found too few groups among them
            samples = []
        # OpenRLHF divides completions by prompts
        return samples, pass_rate and pass_rate / group_size, consumed, exhausted

    def _generate_vllm(self, *args: Any, **kwargs: Any) -> tuple:
        with substituted(samples_generator, _collect_prompt_batch=self._collect):
            return super()._generate_vllm(*args, **kwargs)

    def _collect(self, dataloader_iter: Iterator, count: int) -> tuple[list, list, list, bool]:
        """`count` prompts or, of the training set, none."""
        prompts, labels, images, exhausted = collect(dataloader_iter, count)
        if len(prompts) == count or self.evaluating:
            return prompts, labels, images, exhausted
        self.left_out += len(prompts)
        return [], [], [], True

    def take_left_out(self) -> int:
        """Of the episode that ends."""
        count, self.left_out = self.left_out, 0
        return count
