"""A custom agent for test_faults.py, loaded by its path: slow, and with a reward that may raise.

FAULTS, a JSON object in the environment: `seconds` that grading a completion takes, `raises`: "one" or "all".
Every completion is a line in the file `marks`.
"""

import asyncio
import itertools
import json
import os

from openrlhf_math.grpo import executor
from openrlhf_math.rewards import Grade

SETTINGS = json.loads(os.environ["FAULTS"])
number = itertools.count()


class AgentExecutor(executor.AgentExecutor):
    async def grade(self, text: str, label: str, problem: str) -> Grade:
        mine = next(number)
        with open(SETTINGS["marks"], "a") as marks:
            marks.write("x\n")
        if SETTINGS.get("raises") == "all" or (SETTINGS.get("raises") == "one" and mine == 3):
            raise LookupError("no such reward")
        # Each its own pair, so that a worker decides and not what is remembered.
        await self.pool.grade(rf"<think>\n</think>\n\boxed{{(x+{mine})^2}}", f"x^2+{2 * mine}x+{mine**2}")
        await asyncio.sleep(SETTINGS.get("seconds", 0))
        return await super().grade(text, label, problem)
