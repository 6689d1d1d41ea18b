"""`--train.full_determinism_enable`: what a completion is depends on the weights, the problem and the step alone.

Every request has a seed of its own, so neither what the engine drew before nor which engine answers matters; groups are
taken in the order in which their problems were drawn, not in that of their answers.
"""

from functools import partial

from openrlhf.trainer.ppo_utils import samples_generator
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from vllm import SamplingParams

from openrlhf_math.colocation.compose import substituted
from openrlhf_math.grpo.seeds import derived_seed


class DeterministicSamples(SamplesGenerator):
    """OpenRLHF's sample generator, which does not depend on the past if the user wants that.

    step: gradient steps done. evaluating: whether the samples are for an evaluation.
    """

    step = 0
    evaluating = False

    def _dispatch_prompts_to_vllm(self, prompts, *args, **kwargs) -> list:
        self._drawn += prompts
        if not self.args.train.full_determinism_enable:
            return super()._dispatch_prompts_to_vllm(prompts, *args, **kwargs)
        seed = derived_seed(self.args.train.seed, self.step, self.evaluating)  # the executor adds the prompt
        with substituted(samples_generator, SamplingParams=partial(SamplingParams, seed=seed)):
            return super()._dispatch_prompts_to_vllm(prompts, *args, **kwargs)

    def _generate_vllm(self, *args, **kwargs):
        self._drawn: list[str] = []
        samples, *rest = super()._generate_vllm(*args, **kwargs)
        if self.args.train.full_determinism_enable:
            # Of a prompt that was asked again, its engine having died, the first.
            place = {prompt: number for number, prompt in reversed([*enumerate(self._drawn)])}
            samples.sort(key=lambda sample: place[sample.prompts[0]])
        return samples, *rest
