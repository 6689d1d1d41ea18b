"""What the trainer sends is what `save_pretrained` writes: names, shapes and values."""

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from vllm.distributed.weight_transfer.base import ParamMeta

from openrlhf_math.colocation import weight_source
from openrlhf_math.colocation.weight_source import DeepSpeedSource, plan_units

COMMON = {
    "vocab_size": 20, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FAMILIES = {
    "Qwen2Config": {"tie_word_embeddings": True},
    "Qwen3MoeConfig": {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 8},
    "MixtralConfig": {"num_local_experts": 3, "num_experts_per_tok": 2},
    "DeepseekV3Config": {
        "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 8,
        "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
        "v_head_dim": 8, "num_key_value_heads": 4,
    },
    "GptOssConfig": {"num_local_experts": 3, "num_experts_per_tok": 2, "head_dim": 8},
}  # fmt: skip


@pytest.fixture(params=FAMILIES)
def model(request) -> torch.nn.Module:
    torch.manual_seed(0)
    config = getattr(transformers, request.param)(**COMMON | FAMILIES[request.param])
    return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def saved(model, path) -> dict[str, torch.Tensor]:
    """Of the checkpoint, without what is never trained."""
    model.save_pretrained(path)
    never = {name for name, _ in model.named_buffers()}
    return {name: tensor for name, tensor in load_file(path / "model.safetensors").items() if name not in never}


def test_source_yields_the_checkpoint(model, tmp_path):
    expected = saved(model, tmp_path)
    for trained in (model, AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)):
        source = DeepSpeedSource(trained, zero_stage=2, bucket_bytes=1000)
        found = dict(source)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), name
        assert source.metadata() == [ParamMeta(name, t.dtype, tuple(t.shape)) for name, t in found.items()]


def test_parameters_without_conversion_are_not_copied():
    model = AutoModelForCausalLM.from_config(transformers.Qwen2Config(**COMMON | {"tie_word_embeddings": True}))
    found = dict(DeepSpeedSource(model, zero_stage=2, bucket_bytes=1000))
    for name, parameter in model.named_parameters():
        assert found[name].data_ptr() == parameter.data_ptr()


def described(tensors) -> list[ParamMeta]:
    return [ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]


LAYERS = {f"layers.{layer}.{name}": torch.ones(2, 3) for layer in range(2) for name in ("a", "b", "c")}


def test_parameters_that_a_checkpoint_joins_are_a_unit_within_their_layer(monkeypatch):
    def as_saved(module, tensors):
        """`a` and `b` of a layer are one tensor in the checkpoint, and `c` has another name."""
        joined = dict(tensors)
        for name in tensors:
            layer, _, last = name.rpartition(".")
            if last == "a":
                joined[f"{layer}.ab"] = torch.cat([joined.pop(f"{layer}.a"), joined.pop(f"{layer}.b")])
            elif last == "c":
                joined[f"{layer}.see"] = joined.pop(name)
        return joined

    monkeypatch.setattr(weight_source, "as_saved", as_saved)
    units = plan_units(torch.nn.Module(), described(LAYERS))
    assert [unit.names for unit in units] == [
        ("layers.0.a", "layers.0.b"), ("layers.0.c",), ("layers.1.a", "layers.1.b"), ("layers.1.c",)
    ]  # fmt: skip
    assert [each for unit in units for each in unit.saved] == described(
        {
            f"layers.{layer}.{name}": torch.ones(2 * len(name) if name == "ab" else 2, 3)
            for layer in range(2)
            for name in ("ab", "see")
        }
    )
    assert not any(unit.as_trained for unit in units)


def test_conversion_across_layers_is_refused(monkeypatch):
    def as_saved(module, tensors):
        if len(tensors) != len(LAYERS):
            raise KeyError("needs all")
        return {"everything": torch.cat(list(tensors.values()))}

    monkeypatch.setattr(weight_source, "as_saved", as_saved)
    with pytest.raises(RuntimeError, match="names of its checkpoint"):
        plan_units(torch.nn.Module(), described(LAYERS))


def test_under_zero_3_a_unit_is_gathered_whole(monkeypatch, tmp_path):
    model = AutoModelForCausalLM.from_config(
        transformers.MixtralConfig(**COMMON | FAMILIES["MixtralConfig"]), dtype=torch.bfloat16
    )
    expected = saved(model, tmp_path)
    gathered = []

    class Gather:
        def __init__(self, parameters, enabled) -> None:
            gathered.append(len(parameters))
            self.parameters = parameters

        def __enter__(self) -> None:
            for parameter in self.parameters:
                parameter.data = parameter.whole

        def __exit__(self, *error) -> None:
            for parameter in self.parameters:
                parameter.data = torch.empty(0, dtype=parameter.dtype)

    monkeypatch.setattr(weight_source.deepspeed.zero, "GatheredParameters", Gather)
    for parameter in model.parameters():
        parameter.whole, parameter.ds_shape = parameter.data, parameter.shape
        parameter.data = torch.empty(0, dtype=parameter.dtype)
    found = dict(DeepSpeedSource(model, zero_stage=3, bucket_bytes=4000))
    assert sum(gathered) == len(list(model.parameters()))
    assert len(gathered) > 3
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
