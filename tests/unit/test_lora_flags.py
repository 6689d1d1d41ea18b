"""LoRA flags of `grpo` and `sft`: what is refused before Ray starts, what is trained, and what a dry run counts."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, Qwen3MoeConfig

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world import write_tiny_world
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.faults.resume import checkpoint_bytes
from openrlhf_math.grpo.plan import plan
from openrlhf_math.training.lora import Lora, base_digest, check_base, look


@pytest.fixture(autouse=True)
def environment():
    """As it was: the commands change that of their process."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "world"
    write_tiny_world(folder, seed=0, raw=40, train=20, heldout=5)
    return folder / "model"


def command(name: str, model, *flags: str) -> list[str]:
    key, data = ("actor", "data.prompt_dataset") if name == "grpo" else ("model", "data.dataset")
    inputs = (f"--{key}.model_name_or_path", str(model), f"--{data}", "some/data", "--data.max_len", "256")
    return [name, *inputs, "--dry-run", *flags]


def flags_of(targets="all-linear", rank: int = 8, alpha: int = 16, dropout: float = 0) -> SimpleNamespace:
    return SimpleNamespace(rank=rank, alpha=alpha, dropout=dropout, target_modules=targets)


@pytest.mark.parametrize("name", ["grpo", "sft"])
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--ds.load_in_4bit"], ("--ds.load_in_4bit", "bitsandbytes")),
        (["--ds.load_in_4bit", "--ds.lora.rank", "8"], ("--ds.load_in_4bit", "bitsandbytes")),
        (["--ds.lora.rank", "-1"], ("--ds.lora.rank -1",)),
        (["--ds.lora.alpha", "32"], ("--ds.lora.alpha", "--ds.lora.rank")),
        (["--ds.lora.target_modules", "q_proj"], ("--ds.lora.target_modules", "--ds.lora.rank")),
        (["--ds.lora.rank", "8", "--ds.lora.alpha", "0"], ("--ds.lora.alpha 0",)),
        (["--ds.lora.rank", "8", "--ds.lora.dropout", "1"], ("--ds.lora.dropout 1",)),
        (["--ds.lora.rank", "8", "--ds.lora.target_modules"], ("--ds.lora.target_modules",)),
        (["--ds.lora.rank", "8", "--ds.lora.target_modules", "all-linear", "q_proj"], ("all-linear",)),
        (["--ds.lora.rank", "8", "--ds.tensor_parallel_size", "2"], ("--ds.tensor_parallel_size",)),
        (["--ds.lora.rank", "8", "--ds.lora.target_modules", "q_proj", "k_poj"], ("k_poj",)),
        (["--ds.lora.rank", "8", "--ds.lora.target_modules", "k_poj"], ("k_poj",)),
        (["--ds.lora.rank", "8", "--ds.lora.target_modules", "q_proj", "lm_head"], ("lm_head", "output head")),
        (["--ds.lora.rank", "8", "--ds.lora.target_modules", "q_proj", "embed_tokens"], ("embed_tokens", "Embedding")),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else None,
)
def test_invalid_flags(name, flags, named, model, capsys):
    if "tensor_parallel_size" in " ".join(flags):
        flags = [*flags, "--ds.param_dtype", "bf16"] + (["--actor.num_gpus_per_node", "2"] if name == "grpo" else [])
    assert main(command(name, model, *flags)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert all(part in line for part in named), line


@pytest.mark.parametrize("flags", [("--train.enable_ema",), ("--algo.advantage.estimator", "gae")])
def test_other_models_without_adapter_support_are_refused(flags, model, capsys):
    assert main(command("grpo", model, "--ds.lora.rank", "8", *flags)) == 2
    assert flags[0] in capsys.readouterr().err


@pytest.mark.parametrize("name", ["grpo", "sft", "eval"])
def test_adapter_is_not_a_model(name, model, tmp_path, capsys):
    shutil.copytree(model, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    words = command(name, tmp_path / "adapter")
    if name == "eval":
        words = [
            "eval",
            "--model",
            str(tmp_path / "adapter"),
            "--benchmark",
            "gsm8k",
            "--output",
            str(tmp_path / "out"),
        ]
    assert main(words) == 2
    assert "this is an adapter, not a model" in capsys.readouterr().err


def by_hand(model: Path, rank: int, names: tuple[str, ...]) -> tuple[dict[str, int], int]:
    """Adapted layers of each name, and rank * (in + out) a layer, from the weights' shapes."""
    weights = AutoModelForCausalLM.from_pretrained(model).state_dict()
    kinds = {name: [each for key, each in weights.items() if key.endswith(f".{name}.weight")] for name in names}
    size = sum(rank * sum(each.shape) for group in kinds.values() for each in group)
    return {name: len(group) for name, group in kinds.items()}, size


ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.mark.parametrize(("targets", "names"), [("all-linear", ALL), (["v_proj", "q_proj"], ("q_proj", "v_proj"))])
def test_adapted_layers_and_parameter_count(targets, names, model):
    found, (kinds, size) = look(str(model), flags_of(targets, rank=5)), by_hand(model, 5, names)
    assert (found.rank, found.targets, found.parameters) == (5, kinds, size)


def test_without_a_rank_all_weights_are_trained(model):
    assert look(str(model), flags_of(rank=0)) is None


def test_uninspectable_model_is_checked_on_load(tmp_path):
    assert look(str(tmp_path / "none"), flags_of()) == Lora(8, {}, 0)


def test_experts_are_adapted_under_the_names_of_their_linear_layers(tmp_path):
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
    Qwen3MoeConfig(vocab_size=50, **shape, **experts).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).model_type == "qwen3_moe"
    found = look(str(tmp_path), flags_of(["q_proj", "gate_proj", "up_proj", "down_proj"]))
    assert found.targets["q_proj"] == found.targets["gate_up_proj"] == found.targets["down_proj"] == 2
    with pytest.raises(UserError, match="gate_proj"):
        look(str(tmp_path), flags_of(["q_proj", "gate_proj"]))
    with pytest.raises(UserError, match="dropout"):
        look(str(tmp_path), flags_of(dropout=0.1))


@pytest.mark.parametrize(("zero_stage", "ranks"), [(2, 1), (2, 4), (3, 4)])
def test_only_adapters_have_gradients_an_optimizer_and_checkpoints(zero_stage, ranks):
    args = SimpleNamespace(
        math=SimpleNamespace(parameters=1000, lora=Lora(8, {"q_proj": 4}, 40), teacher=None),
        actor=SimpleNamespace(num_nodes=1, num_gpus_per_node=ranks),
        critic=SimpleNamespace(model_name_or_path=None),
        reward=SimpleNamespace(remote_url=["agent"]),
        ds=SimpleNamespace(zero_stage=zero_stage, adam_offload=False),
        vllm=SimpleNamespace(num_engines=1, tensor_parallel_size=1, gpu_memory_utilization=0.5),
        algo=SimpleNamespace(kl=SimpleNamespace(init_coef=0)),
    )
    weights = 2 * 1040 / (ranks if zero_stage == 3 else 1)
    (policy,) = (row.memory for row in plan(args) if row.name.startswith("policy"))
    assert policy == weights + (2 + 4 + 8) * 40 / ranks
    assert checkpoint_bytes(args) == (2 + 4 + 8) * 40
    args.math.lora = None
    assert checkpoint_bytes(args) == 14 * 1000


@pytest.mark.parametrize("name", ["grpo", "sft"])
def test_dry_run_names_trained_parameters_and_output(name, model, tmp_path, capsys):
    assert not main(command(name, model, "--ds.lora.rank", "4", "--math.run_dir", str(tmp_path / "run")))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("LoRA"))
    _, size = by_hand(model, 4, ALL)
    assert f"{size:,}" in line and "down_proj (" in line and str(tmp_path / "run" / "model" / "adapter") in line


@pytest.mark.parametrize(("name", "code"), [("grpo", 2), ("sft", 0)])
def test_adapter_dropout_is_only_for_sft(name, code, model, capsys):
    assert (main(command(name, model, "--ds.lora.rank", "4", "--ds.lora.dropout", "0.1")) or 0) == code
    assert ("--ds.lora.dropout 0.1" in capsys.readouterr().err) == (code == 2)


def test_resumed_run_keeps_its_base_model(model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    lora = Lora(8, {}, 0, base_digest(str(tmp_path / "model")))
    (tmp_path / "config.json").write_text(json.dumps({"math": {"lora": {"base": lora.base}}}))
    check_base(tmp_path, str(model), Lora(8, {}, 0, base_digest(str(model))))
    check_base(tmp_path, str(model), None)

    weights = tmp_path / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match="adapters alone"):
        check_base(tmp_path, str(model), Lora(8, {}, 0, base_digest(str(tmp_path / "model"))))


def test_inspecting_a_model_loads_no_weights(model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    assert look(str(tmp_path / "model"), flags_of()).parameters > 0
