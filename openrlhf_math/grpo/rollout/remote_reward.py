"""Rewards of `--reward.remote_url`: OpenRLHF's executor, whose failures are counted and end in a sentence.

OpenRLHF itself logs a failure and continues without a reward, and takes only tensors, which JSON has none of.
"""

import math
from collections import deque
from collections.abc import Awaitable
from typing import Any

import torch
from openrlhf.utils.agent import SingleTurnAgentExecutor

from openrlhf_math.grpo.executor import MAX_UNGRADED
from openrlhf_math.grpo.rollout.ungraded import RewardErrors

FAILED = "reward_error"


class RemoteReward(SingleTurnAgentExecutor):
    """Rewards of a Python file or of HTTP servers. A completion on which they fail has the reward 0."""

    def __init__(self, urls: list[str]) -> None:
        super().__init__(urls)
        self.ungraded: deque[dict] = deque(maxlen=MAX_UNGRADED)
        self.reward_errors = RewardErrors()

    async def execute(
        self,
        prompt: str,
        label: str,
        sampling_params: Any,
        max_length: int,
        hf_tokenizer: Any,
        llm_engine: Any,
        images: Any = None,
    ) -> dict:
        """As OpenRLHF's, with `reward_error` where there is no reward."""
        response = await super().execute(
            prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images=images
        )
        error = response["extra_logs"].pop(FAILED, None)
        response["extra_logs"]["reward_error_rate"] = float(error is not None)
        if error is not None:
            grade, words = self.reward_errors.grade(self.reward_func or self.reward_endpoints, error)
            traceback = {"traceback": words} if words else {}
            start, stop = response["action_ranges"][-1]
            text = hf_tokenizer.decode(response["observation_tokens"][start:stop])
            self.ungraded.append({"reason": grade.reason, "gold": label, "response": text} | traceback)
            response[FAILED] = grade.reason
        return response

    async def _fetch_rewards_via_func(self, *batch: list[str]) -> list[dict]:
        return await self._fetched(super()._fetch_rewards_via_func(*batch))

    async def _fetch_rewards_via_http(self, *batch: list[str]) -> list[dict]:
        return await self._fetched(super()._fetch_rewards_via_http(*batch))

    async def _fetched(self, replies: Awaitable[list]) -> list[dict]:
        """What is given for one completion, or what was raised."""
        try:
            (given,) = await replies
            return [numbers(given)]
        except Exception as error:  # one item's must not end the run; the trainer ends it if all raise
            return [{"rewards": 0.0, "extra_logs": {FAILED: error}}]


def numbers(given: object) -> dict:
    """A reply with one float for each of `rewards`, `scores` (those if missing) and `extra_logs`.

    given: tensors, lists or numbers for one completion. Raises ValueError for anything else, for a reply without
    `rewards` and for numbers that are not finite.
    """
    if not isinstance(given, dict) or given.get("rewards") is None:
        raise ValueError(f"the reply is {str(given)[:200]!r}; it must be a dict with 'rewards', one for each query")
    scores = given.get("scores")
    logs = {str(name): one_number(name, value) for name, value in (given.get("extra_logs") or {}).items()}
    reward = one_number("rewards", given["rewards"])
    return {
        "rewards": reward,
        "scores": reward if scores is None else one_number("scores", scores),
        "extra_logs": logs,
    }


def one_number(name: str, value: object) -> float:
    """Raises ValueError unless there is exactly one, and it is finite."""
    try:
        values = torch.as_tensor(value, dtype=torch.float64).flatten().tolist()
    except (TypeError, ValueError, RuntimeError):
        values = []
    if len(values) != 1 or not math.isfinite(values[0]):
        raise ValueError(f"the reply's {name!r} is {str(value)[:200]!r}, not one finite number for one query")
    return values[0]
