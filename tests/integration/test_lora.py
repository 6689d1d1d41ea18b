"""GRPO and SFT with LoRA on the real stack: the engine has the merged weights, and what is saved loads everywhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from openrlhf_math.data.tiny_world import write_tiny_world

HERE = Path(__file__).parent
LETTERS = HERE.parent / "benchmarks" / "letters_agent.py"  # a reward that random weights can earn
RANK = 8


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lora") / "world"
    write_tiny_world(folder, seed=0, raw=80, train=64, heldout=8)
    traces = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    rows = [
        {"problem": each["problem"], "response": f"<think>{each['answer']}</think>{each['answer']}"} for each in traces
    ]
    (folder / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(*words: object) -> None:
    command = [sys.executable, "-m", "openrlhf_math", *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]


def grpo(world: Path, run_dir: Path, *more: str) -> None:
    """Four steps with so high a learning rate that an engine with the weights of the start would be far off."""
    run(
        "grpo", "--actor.model_name_or_path", world / "model", "--data.prompt_dataset", world / "train.jsonl",
        "--math.run_dir", run_dir, "--math.instruction", "", "--math.answer_style", "think",
        "--train.agent_func_path", LETTERS, "--rollout.batch_size", "8", "--rollout.n_samples_per_prompt", "4",
        "--data.max_len", "160", "--rollout.max_new_tokens", "48", "--data.max_samples", "32", "--train.seed", "5",
        "--train.full_determinism_enable", "--actor.adam.lr", "2e-2", "--actor.lr_scheduler", "constant",
        "--ckpt.save_steps", "1", "--ds.lora.rank", RANK, *more,
    )  # fmt: skip


def sft(world: Path, run_dir: Path, *more: str) -> None:
    run(
        "sft", "--model.model_name_or_path", world / "model", "--data.dataset", world / "traces.jsonl",
        "--math.run_dir", run_dir, "--math.instruction", "", "--data.max_len", "160", "--train.batch_size", "8",
        "--train.micro_batch_size", "8", "--train.max_epochs", "1", "--adam.lr", "1e-2", "--lr_scheduler", "constant",
        "--ckpt.save_steps", "2", "--ds.lora.rank", RANK, *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(world) -> Path:
    grpo(world, world.parent / "grpo")
    return world.parent / "grpo"


def records(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def rewound(run_dir: Path, checkpoints: str, step: int, to: Path) -> Path:
    """A copy of a run as a kill after this step leaves it."""
    shutil.copytree(run_dir, to)
    shutil.rmtree(to / "model")
    for path in (to / checkpoints).glob("global_step*"):
        if int(path.name.removeprefix("global_step")) > step:
            shutil.rmtree(path)
    (to / checkpoints / "latest").write_text(f"global_step{step}")
    return to


def assert_same_model(one: Path, other: Path) -> None:
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (one / "model" / name).read_bytes() == (other / "model" / name).read_bytes()


def load(path: Path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def tokens(world: Path) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randint(4, load(world / "model").config.vocab_size, (3, 40))


@torch.no_grad()
def log_probs(model, ids: torch.Tensor) -> torch.Tensor:
    """Of each token but the first."""
    return model(ids).logits.log_softmax(dim=-1)[:, :-1].gather(2, ids[:, 1:, None])[..., 0]


def assert_saved(world: Path, run_dir: Path) -> None:
    """The adapter on the base is the merged model up to the rounding of bfloat16, and far from the base."""
    ids = tokens(world)
    base, merged = log_probs(load(world / "model"), ids), log_probs(load(run_dir / "model"), ids)
    adapter = log_probs(PeftModel.from_pretrained(load(world / "model"), run_dir / "model" / "adapter"), ids)
    assert (base - merged).abs().mean() > 0.1
    assert (adapter - merged).abs().mean() < 2e-3


def test_engine_samples_from_the_trained_weights(world, trained):
    steps = records(trained)
    assert [each["step"] for each in steps] == [1, 2, 3, 4]
    assert all(each["grad_norm"] > 0 for each in steps)
    assert max(each["logprob_gap"] for each in steps) < 0.01
    assert_saved(world, trained)


@pytest.mark.slow
def test_checkpoint_holds_only_adapters_and_resume_is_exact(world, trained, tmp_path):
    whole = (world / "model" / "model.safetensors").stat().st_size
    adapters = (trained / "model" / "adapter" / "adapter_model.safetensors").stat().st_size
    newest = trained / "checkpoints" / "_actor" / "global_step4"
    states = {path.name: path.stat().st_size for path in newest.glob("*.pt")}
    assert states["mp_rank_00_model_states.pt"] < adapters + 100_000 < 0.3 * whole
    resumed = rewound(trained, "checkpoints/_actor", 2, tmp_path / "resumed")
    grpo(world, resumed, "--ckpt.load_enable")
    assert [each["step"] for each in records(resumed)] == [1, 2, 3, 4]
    assert_same_model(trained, resumed)


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_vllm_loads_the_saved_model(world, trained, form, tmp_path):
    ids = tokens(world)
    (tmp_path / "tokens.json").write_text(json.dumps(ids.tolist()))
    model, adapter = (trained / "model", "-") if form == "merged" else (world / "model", trained / "model" / "adapter")
    command = [sys.executable, HERE / "lora_in_vllm.py", model, adapter, tmp_path / "tokens.json", str(RANK)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    served = torch.tensor([json.loads(line) for line in result.stdout.splitlines() if line.startswith("[")])
    assert (served - log_probs(load(trained / "model"), ids)).abs().mean() < 2e-3


@pytest.mark.slow
def test_sft_trains_adapters_and_resumes_after_a_kill(world, tmp_path):
    sft(world, tmp_path / "sft")
    losses = [each["loss"] for each in records(tmp_path / "sft")]
    assert len(losses) == 8 and losses[-1] < 0.8 * losses[0]
    assert_saved(world, tmp_path / "sft")
    resumed = rewound(tmp_path / "sft", "checkpoints", 4, tmp_path / "resumed")
    sft(world, resumed, "--ckpt.load_enable")
    assert [each["loss"] for each in records(resumed)] == pytest.approx(losses, rel=1e-3)
    assert_saved(world, resumed)


@pytest.mark.slow
def test_two_sharded_processes_train_the_same_adapters(world, trained, tmp_path):
    more = ("--actor.num_gpus_per_node", "2", "--ds.zero_stage", "3", "--actor.gradient_checkpointing_enable")
    grpo(world, tmp_path / "two", *more)
    one, two = records(trained), records(tmp_path / "two")
    assert two[0]["grad_norm"] == pytest.approx(one[0]["grad_norm"], rel=0.02)
    assert max(each["logprob_gap"] for each in two) < 0.01
    assert_saved(world, tmp_path / "two")
    resumed = rewound(tmp_path / "two", "checkpoints/_actor", 2, tmp_path / "resumed")
    grpo(world, resumed, *more, "--ckpt.load_enable")
    assert_same_model(tmp_path / "two", resumed)


@pytest.mark.slow
def test_sft_of_two_processes_saves_the_same_model(world, tmp_path):
    sft(world, tmp_path / "one")
    flags = ("--train.micro_batch_size", "4", "--ds.zero_stage", "3")
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = [
        "-m", "openrlhf_math", "sft", "--model.model_name_or_path", world / "model", "--data.dataset",
        world / "traces.jsonl", "--math.run_dir", tmp_path / "two", "--math.instruction", "", "--data.max_len", "160",
        "--train.batch_size", "8", "--train.max_epochs", "1", "--adam.lr", "1e-2", "--lr_scheduler", "constant",
        "--ds.lora.rank", RANK, *flags,
    ]  # fmt: skip
    subprocess.run([*two, *map(str, words)], check=True, capture_output=True, timeout=300, env=os.environ)
    losses = [[each["loss"] for each in records(tmp_path / name)] for name in ("one", "two")]
    # Later, this learning rate makes much of the little that the order of additions changes.
    assert losses[1][:5] == pytest.approx(losses[0][:5], rel=1e-3)
    assert_saved(world, tmp_path / "two")
