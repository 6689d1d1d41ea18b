"""A reward of one's own: what the project's grading gives, halved for every 400 characters of the completion.

openrlhf-math grpo ... --train.agent_func_path examples/own_reward.py
"""

import dataclasses

from openrlhf_math.grpo import executor
from openrlhf_math.rewards import Grade

HALVED_EVERY = 400


class AgentExecutor(executor.AgentExecutor):
    """OpenRLHF looks for a class of this name."""

    async def grade(self, text: str, label: str, problem: str) -> Grade:
        grade = await super().grade(text, label, problem)
        return dataclasses.replace(grade, reward=grade.reward * 0.5 ** (len(text) / HALVED_EVERY))
