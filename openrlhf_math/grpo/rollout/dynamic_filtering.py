"""`--algo.dynamic_filtering_enable`: groups whose advantages are all zero are replaced by the next problems."""

import math
from types import SimpleNamespace
from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from openrlhf.utils.logging_utils import init_logger

from openrlhf_math.grpo.rollout.group_rewards import teaches_by_reward

logger = init_logger(__name__)


class FilteringGenerator(SamplesGenerator):
    """OpenRLHF's, which drops a group unless the mean of its scores lies within `--algo.dynamic_filtering_range`.

    A group that teaches nothing gets the score NaN, which lies in no range. Without a range no other is dropped.
    DAPO's dynamic sampling, https://arxiv.org/abs/2503.14476, section 3.2.
    """

    args: SimpleNamespace  # of the run
    _filters = False  # the batch that is being generated
    _group: list[Experience]  # that came of a group so far

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        bounds = self.args.algo.dynamic_filtering_range or (-math.inf, math.inf)
        algo = SimpleNamespace(**{**vars(self.args.algo), "dynamic_filtering_range": bounds})
        self.args = SimpleNamespace(**{**vars(self.args), "algo": algo})

    def _generate_vllm(self, *args: Any, dynamic_filtering: bool, **kwargs: Any) -> tuple:
        self._filters, self._group = dynamic_filtering, []
        return super()._generate_vllm(*args, dynamic_filtering=dynamic_filtering, **kwargs)

    def _process_response_into_experience(self, response: dict, **generate_kwargs: Any) -> Experience:
        """OpenRLHF calls it for the responses of a group one after another, and then looks at their scores."""
        experience = super()._process_response_into_experience(response, **generate_kwargs)
        if self._filters and experience.rewards is not None:
            self._group.append(experience)
            if len(self._group) == self.args.rollout.n_samples_per_prompt:
                self._score(self._group)
                self._group = []
        return experience

    def _score(self, group: list[Experience]) -> None:
        teaches = teaches_by_reward(group, self.args)
        if not teaches:
            rewards = [round(each.rewards.item(), 6) for each in group]
            logger.info(f"A group is left out, as all its advantages are 0: rewards {rewards}")
        for each in group:
            if not teaches:
                each.scores = torch.full_like(each.rewards, math.nan, dtype=torch.float32)
            elif each.scores is None:  # OpenRLHF filters only what has scores
                each.scores = each.rewards.clone()
