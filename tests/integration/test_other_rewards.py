"""Rewards that are not ours, on the real stack: a file, an HTTP server, a reward model; and PPO with a critic."""

import json

import pyarrow.parquet
import pytest
from json_server import JsonServer
from test_grpo import flags

from openrlhf_math.cli import main

pytestmark = pytest.mark.usefixtures("shared_imports")

# A hundredth for each digit of the prompt and the completion.
REWARD = """
import torch

def reward_func(queries, prompts, labels):
    assert all(labels) and all(query.startswith(prompt) for query, prompt in zip(queries, prompts))
    digits = torch.tensor([sum(one.isdigit() for one in query) / 100 for query in queries])
    return {"rewards": digits, "scores": digits, "extra_logs": {"asked": torch.tensor([2.0])}}
"""
TWO_STEPS = ("--data.max_samples", "16")


def records(run_dir) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def check_digits(run_dir) -> None:
    """Each completion's reward is that of REWARD, and the steps' means are theirs."""
    kept = sorted((run_dir / "rollouts").glob("*.parquet"))
    for file, record in zip(kept, records(run_dir), strict=True):
        rows = pyarrow.parquet.read_table(file).to_pylist()
        digits = [sum(one.isdigit() for one in row["prompt"] + row["response"]) / 100 for row in rows]
        assert [row["reward"] for row in rows] == pytest.approx(digits)
        assert record["reward"] == pytest.approx(sum(digits) / len(digits)) and record["grad_norm"] > 0
        assert "accuracy" not in record and record["reward_error_rate"] == 0


def test_python_file(demo, tmp_path, capsys):
    (tmp_path / "reward.py").write_text(REWARD)
    file = ("--reward.remote_url", str(tmp_path / "reward.py"))
    assert main(flags(demo, tmp_path / "run", *file, *TWO_STEPS)) == 0
    check_digits(tmp_path / "run")
    assert [record["asked"] for record in records(tmp_path / "run")] == [2, 2]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert len(lines) == 2 and all("acc - " in line for line in lines)


@pytest.mark.slow
def test_server(demo, tmp_path):
    def reply(path, body, headers):
        assert len(body["query"]) == len(body["prompts"]) == len(body["labels"]) == 1
        digits = sum(one.isdigit() for one in body["query"][0]) / 100
        return 200, {"rewards": [digits], "scores": [digits]}

    with JsonServer(reply) as server:
        assert main(flags(demo, tmp_path / "run", "--reward.remote_url", server.url, *TWO_STEPS)) == 0
    check_digits(tmp_path / "run")


def test_server_that_always_fails_ends_the_run(demo, tmp_path, capsys):
    with JsonServer(lambda *_: (500, {})) as server:
        assert main(flags(demo, tmp_path / "run", "--reward.remote_url", server.url)) == 1
    said = capsys.readouterr().err
    assert server.url in said and "ungraded.jsonl" in said and "Traceback" not in said


@pytest.fixture(scope="module")
def reward_model(demo, tmp_path_factory):
    """The demo's student with a head of random weights that gives one number."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    student, folder = demo / "sft" / "model", tmp_path_factory.mktemp("reward_model")
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(student, num_labels=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(student).save_pretrained(folder)
    return folder


def test_ppo_critic_initialized_from_the_policy(demo, tmp_path, created):
    assert main(flags(demo, tmp_path / "run", "--algo.advantage.estimator", "gae", "--critic.adam.lr", "1e-4")) == 0
    assert sorted(created) == ["CriticModelActor", "MathPolicyActor"]
    (record,) = records(tmp_path / "run")
    assert record["grad_norm"] > 0 and 0 <= record["accuracy"] <= 1


@pytest.mark.slow
def test_ppo_with_a_critic_and_a_reward_model(demo, tmp_path, created, reward_model):
    more = ("--algo.advantage.estimator", "gae", "--reward.model_name_or_path", str(reward_model))
    critic = ("--critic.model_name_or_path", str(reward_model), "--critic.adam.lr", "1e-4")
    assert main(flags(demo, tmp_path / "run", *more, *critic, *TWO_STEPS)) == 0
    assert sorted(created) == ["CriticModelActor", "MathPolicyActor", "RewardModelActor"]
    first, second = records(tmp_path / "run")
    assert first["grad_norm"] > 0 and second["grad_norm"] > 0 and "accuracy" not in first
