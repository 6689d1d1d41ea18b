"""A reward as cheap as can be that differs within every group, so that no side of a benchmark has idle completions."""

from openrlhf_math.grpo import executor
from openrlhf_math.rewards import Grade


class AgentExecutor(executor.AgentExecutor):
    """The share of the letter e."""

    async def grade(self, text: str, label: str, problem: str) -> Grade:
        reward = text.count("e") / max(len(text), 1)
        return Grade(outcome="wrong", reward=reward, answer=None, well_formed=False, seconds=0.0)
