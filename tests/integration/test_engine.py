"""The rollout engine for real: patches reach every process, weights arrive, groups come back graded."""

import os
import tempfile
from types import SimpleNamespace

import pytest
import ray
import torch
from transformers import AutoModelForCausalLM
from vllm import SamplingParams

from openrlhf_math.colocation import shared_memory
from openrlhf_math.colocation.layout import worker_environment
from openrlhf_math.colocation.weight_transfer import BUCKET_BYTES, WeightTransfer
from openrlhf_math.data.tiny_world import write_tiny_world
from openrlhf_math.grpo.driver import start_ray
from openrlhf_math.grpo.rollout.rollout_actor import MathRolloutActor
from openrlhf_math.rewards import RewardConfig

MAX_LENGTH = 256


@pytest.fixture(scope="module")
def cluster():
    args = SimpleNamespace(
        math=SimpleNamespace(device="cpu", verbose=False),
        actor=SimpleNamespace(num_nodes=1, num_gpus_per_node=1),
        vllm=SimpleNamespace(num_engines=1, tensor_parallel_size=1),
        train=SimpleNamespace(colocate_all=True, colocate_actor_ref=False),
        algo=SimpleNamespace(kl=SimpleNamespace(init_coef=0.0)),
    )
    start_ray(args, worker_environment("cpu", 1_000_000))
    yield
    ray.shutdown()


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def engine(cluster, tmp_path_factory, request):
    """A model directory and the engine that serves it; with a tied output head, vLLM keeps a second copy of it."""
    world = tmp_path_factory.mktemp("world")
    write_tiny_world(world, seed=0)
    model = AutoModelForCausalLM.from_pretrained(world / "model")
    model.config.tie_word_embeddings = request.param
    model.tie_weights()
    model.save_pretrained(world / "model")
    actor = (
        ray.remote(MathRolloutActor)
        .options(num_gpus=0.2)
        .remote(
            model=str(world / "model"),
            device="cpu",
            colocated=True,
            sequences=8,
            rewards=RewardConfig(style="think"),
            num_gpus=0.2,
            dtype="bfloat16",
            max_model_len=MAX_LENGTH,
            seed=0,
            distributed_executor_backend="uni",
            agent_func_path=executor_path(),
            worker_extension_cls="replaced by ours",
        )
    )
    yield world / "model", actor
    ray.kill(actor)


def executor_path() -> str:
    from openrlhf_math.grpo import default_agent

    return default_agent.__file__


def rollouts(actor, prompt: str, count: int = 4) -> list[dict]:
    params = SamplingParams(temperature=1.0, max_tokens=32)
    return ray.get(actor.generate_responses.remote(prompt, "7", params, MAX_LENGTH, None, count))


def trainer_log_probs(model, tokens: list[int], start: int) -> torch.Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, :-1].float()
    picked = logits.log_softmax(-1).gather(-1, torch.tensor(tokens[1:])[:, None])[:, 0]
    return picked[start - 1 :]


def gap(model, group: list[dict]) -> float:
    """Mean absolute difference of log-probabilities between a Hugging Face model and the engine, nats a token."""
    gaps = []
    for rollout in group:
        ((start, end),) = rollout["action_ranges"]
        expected = trainer_log_probs(model, rollout["observation_tokens"], start)
        gaps.append((expected - torch.tensor(rollout["rollout_log_probs"][start:end])).abs().mean())
    return torch.stack(gaps).mean().item()


def test_patches_reach_workers_of_upstream_and_vllm_processes(engine):
    @ray.remote
    def upstream_alone() -> str:
        import openrlhf.trainer.ray.launcher as launcher

        return type(launcher.__loader__).__name__

    assert ray.get(upstream_alone.remote()) == "PatchedLoader"
    applied = ray.get(engine[1].patches_applied.remote())
    for process in applied["actor"] + applied["engine"]:
        assert process["openrlhf.utils.distributed_util"]
        assert all(process.values())


def test_group_returns_with_grades_and_log_probabilities(engine):
    path, actor = engine
    group = rollouts(actor, "<|im_start|>user\n3 + 4<|im_end|>\n<|im_start|>assistant\n", count=4)
    assert len(group) == 4
    assert len({tuple(rollout["observation_tokens"]) for rollout in group}) > 1
    assert all(rollout["reward"] in (0.0, 0.2, 1.0) for rollout in group)
    assert gap(AutoModelForCausalLM.from_pretrained(path), group) < 0.02


def open_transfer(model, actor, bucket_bytes: int) -> WeightTransfer:
    args = SimpleNamespace(
        math=SimpleNamespace(device="cpu", engine_noise=0.0),
        ds=SimpleNamespace(zero_stage=2, tensor_parallel_size=1),
        train=SimpleNamespace(colocate_all=True),
        vllm=SimpleNamespace(num_engines=1, tensor_parallel_size=1, enable_prefix_caching=True),
    )
    return WeightTransfer.open(model, [actor], args, rank=0, bucket_bytes=bucket_bytes)


@pytest.mark.parametrize("bucket_bytes", [1, 100_000, BUCKET_BYTES], ids=["a parameter", "several", "all"])
def test_new_and_old_weights_can_be_sent(engine, bucket_bytes):
    path, actor = engine
    old, new = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16) for _ in range(2))
    trained = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    transfer = open_transfer(trained, actor, bucket_bytes)
    for model, other in ((new, old), (old, new)):
        trained.load_state_dict(model.state_dict())
        sent = transfer.send()
        assert sent["transfer/bytes"] == sum(2 * parameter.numel() for parameter in trained.parameters())
        group = rollouts(actor, "<|im_start|>user\n3 + 4<|im_end|>\n<|im_start|>assistant\n")
        assert gap(model.float(), group) < 0.03
        assert gap(other.float(), group) > 0.1
        old, new = old.bfloat16(), new.bfloat16()


def test_transfer_leaves_no_shared_memory(engine, monkeypatch):
    path, actor = engine
    ours = tempfile.mkdtemp(dir="/dev/shm")  # concurrent runs have other files there
    monkeypatch.setattr(shared_memory, "DIRECTORY", ours)
    transfer = open_transfer(AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16), actor, 100_000)
    transfer.send()
    os.rmdir(ours)  # fails if anything is in it


def test_weights_that_differ_from_their_description_are_refused(engine):
    path, actor = engine
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    transfer = open_transfer(model, actor, BUCKET_BYTES)
    embedding = model.model.embed_tokens
    whole = embedding.weight
    embedding.weight = torch.nn.Parameter(whole[:-1])
    with pytest.raises(RuntimeError, match=r"yields model.embed_tokens.weight .* in place of"):
        transfer.send()


def test_prompt_that_fills_the_context_is_an_error(engine):
    with pytest.raises(ValueError, match="leaves no room within --data.max_len"):
        rollouts(engine[1], "1" * 2 * MAX_LENGTH)
