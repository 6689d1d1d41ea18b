"""Phases and weight transfer in real runs: sharded or whole, on shared or separate devices; and moves that fail."""

import json
import time

import pytest
import ray

from openrlhf_math.cli import main
from openrlhf_math.colocation.phases import PhaseError, Phases

MOVES = ("wake_weights", "wake_kv_cache", "sleep", "reload", "offload", "transfer")


def run_two_steps(demo, run_dir, *more: str) -> list[dict]:
    """At a learning rate that moves the policy far: an engine with the weights of the step before is found out."""
    train = str(demo / "world" / "train.jsonl")
    assert main([
        "grpo", "--actor.model_name_or_path", str(demo / "sft" / "model"), "--data.prompt_dataset", train,
        "--data.max_samples", "16", "--math.run_dir", str(run_dir), "--math.instruction", "",
        "--math.answer_style", "think", "--rollout.batch_size", "8", "--rollout.n_samples_per_prompt", "4",
        "--data.max_len", "256", "--rollout.max_new_tokens", "64", "--actor.adam.lr", "3e-3",
        "--actor.lr_scheduler", "constant", *more,
    ]) == 0  # fmt: skip
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def model_bytes(directory) -> int:
    return (directory / "model.safetensors").stat().st_size


def test_every_step_reports_moves_and_their_cost(demo):
    records = [json.loads(line) for line in (demo / "grpo" / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        for move in MOVES:
            assert record[f"timing/{move}"] >= 0
            assert record[f"memory/{move}_before"] > 0.1
            assert record[f"memory/{move}_after"] > 0.1
        assert record["memory/peak_gib"] > record["memory/sleep_before"] + record["memory/reload_before"]
        assert 0 < record["transfer/seconds"] <= record["timing/transfer"] <= record["timing/broadcast"]
        gigabytes = record["transfer/bytes"] / 1e9
        assert record["transfer/gb_per_s"] == pytest.approx(gigabytes / record["transfer/seconds"])


TWO = ("--actor.num_gpus_per_node", "2", "--vllm.num_engines", "2")
PLACEMENTS = [
    pytest.param(TWO, id="two processes and two engines", marks=pytest.mark.slow),
    pytest.param((*TWO, "--ds.zero_stage", "3"), id="the same, sharded"),
    pytest.param(
        ("--actor.num_gpus_per_node", "2", "--ds.tensor_parallel_size", "2"),
        id="one policy over two processes",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_weights_reach_engines_that_share_the_devices(demo, tmp_path, placement):
    first, second = run_two_steps(demo, tmp_path / "run", *placement)
    assert first["grad_norm"] > 0
    assert second["logprob_gap"] < 0.02
    assert second["transfer/bytes"] == pytest.approx(model_bytes(demo / "sft" / "model"), rel=0.01)


@pytest.mark.slow
def test_on_separate_devices_with_an_evaluation_after_each_step(demo, tmp_path):
    evaluation = ("--eval.dataset", str(demo / "world" / "heldout.jsonl"), "--eval.steps", "1")
    first, second = run_two_steps(demo, tmp_path / "run", "--no-train.colocate_all", *evaluation)
    assert first["grad_norm"] > 0
    assert second["logprob_gap"] < 0.02
    assert len((tmp_path / "run" / "eval.jsonl").read_text().splitlines()) == 2


@pytest.fixture
def engine():
    """An actor that wakes its weights, has no room for a KV cache, and does not come back from discarding weights."""

    class Engine:  # in here, for Ray to send it along
        def used_bytes(self) -> int:
            return 1

        def wake_up(self, tags) -> None:
            if tags == ["kv_cache"]:
                raise MemoryError("no room for the KV cache")

        def sleep(self, level) -> None:
            if level == 2:
                time.sleep(60)

    ray.init(address="local", include_dashboard=False, num_cpus=2, logging_level="warning", log_to_driver=False)
    yield ray.remote(Engine).options(num_cpus=0).remote()
    ray.shutdown()


def test_failed_hanging_and_dead_actors(engine):
    phases = Phases([engine], policy=None, engines_sleep=True, states_offload=True, timeout=30)
    with pytest.raises(PhaseError, match="^phase rollout, wake_kv_cache: MemoryError: no room for the KV cache"):
        phases.rollout()

    phases.timeout = 1
    phases._awake = {"weights", "kv_cache"}
    with pytest.raises(PhaseError, match="^phase train, sleep: no answer within 1 s$"):
        phases.train()

    phases = Phases([engine], policy=None, engines_sleep=True, states_offload=True, timeout=30)
    ray.kill(engine)
    with pytest.raises(PhaseError, match="^phase rollout, wake_weights: ActorDiedError"):
        phases.rollout()
