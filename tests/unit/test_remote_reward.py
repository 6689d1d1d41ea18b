"""`--reward.remote_url`: a file's or a server's reply is one number a completion, in any form that holds one. Whatever
else comes is counted as a failure of the reward, with its reason."""

import asyncio
import math
from types import SimpleNamespace

import pytest
import torch
from json_server import JsonServer

from openrlhf_math.grpo.rollout.remote_reward import RemoteReward, numbers

GOOD = [
    {"rewards": torch.tensor([0.5]), "scores": torch.tensor([1.0])},
    {"rewards": [0.5], "scores": [1], "extra_logs": None},
    {"rewards": 0.5, "scores": [[1]], "extra_logs": {}},
]
BAD = [
    None, [0.5], "x", {}, {"reward": [1]}, {"rewards": None}, {"rewards": []}, {"rewards": [1, 2]}, {"rewards": "x"},
    {"rewards": [math.nan]}, {"rewards": math.inf}, {"rewards": [1], "scores": [1, 2]},
    {"rewards": [1], "extra_logs": {"length": [None]}},
]  # fmt: skip


@pytest.mark.parametrize("given", GOOD)
def test_one_number_in_any_form(given):
    assert numbers(given) == {"rewards": 0.5, "scores": 1.0, "extra_logs": {}}


def test_score_is_the_default_reward():
    given = {"rewards": [0.25], "extra_logs": {"length": torch.tensor([3])}}
    assert numbers(given) == {"rewards": 0.25, "scores": 0.25, "extra_logs": {"length": 3.0}}


@pytest.mark.parametrize("given", BAD, ids=str)
def test_anything_else_is_refused(given):
    with pytest.raises(ValueError):
        numbers(given)


class Tokenizer:
    """A token is a character."""

    def __call__(self, text, **_):
        return {"input_ids": torch.tensor([[ord(one) for one in text]])}

    def decode(self, ids, **_):
        return "".join(map(chr, ids))


class Engine:
    async def generate(self, ids, params, **_):
        completion = SimpleNamespace(token_ids=[ord("4")], finish_reason="stop", logprobs=None)
        return SimpleNamespace(outputs=[completion])


def rollout(executor: RemoteReward) -> dict:
    params = SimpleNamespace(max_tokens=5, logprobs=None)
    return asyncio.run(executor.execute("2+2=", "4", params, 50, Tokenizer(), Engine()))


def test_reward_server_sets_the_reward():
    asked = []

    def reply(path, body, headers):
        asked.append((path, body))
        return 200, {"rewards": [0.5], "scores": [1.0], "extra_logs": {"length": [7]}}

    with JsonServer(reply) as server:
        response = rollout(RemoteReward([server.url]))
    assert asked == [("/v1", {"query": ["2+2=4"], "prompts": ["2+2="], "labels": ["4"]})]
    assert (response["reward"], response["scores"]) == (0.5, 1.0)
    assert response["extra_logs"] == {"length": 7.0, "reward_error_rate": 0.0} and "reward_error" not in response


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("    return {'rewards': [1.0, 2.0]}", "rewards"),
        ("    raise KeyError('the label')", "the label"),
        ("    return None", "None"),
    ],
)
def test_failure_is_counted_and_says_why(tmp_path, body, reason):
    (tmp_path / "reward.py").write_text(f"def reward_func(queries, prompts, labels):\n{body}\n")
    executor = RemoteReward([str(tmp_path / "reward.py")])
    response = rollout(executor)
    assert response["reward"] == 0.0 and response["extra_logs"] == {"reward_error_rate": 1.0}
    assert reason in response["reward_error"]
    (kept,) = executor.ungraded
    assert kept["response"] == "4" and kept["gold"] == "4" and reason in kept["traceback"]


def test_failing_server(monkeypatch):
    monkeypatch.setattr(asyncio, "sleep", lambda _, real=asyncio.sleep: real(0))
    with JsonServer(lambda *_: (500, {})) as server:
        response = rollout(RemoteReward([server.url]))
    assert response["extra_logs"]["reward_error_rate"] == 1.0 and server.url in response["reward_error"]
