"""Merged weights against PEFT's own merging, what is saved, and the gradient of adapters on the packed path."""

import copy
from contextlib import contextmanager
from types import SimpleNamespace

import deepspeed
import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from openrlhf_math.colocation import strategy
from openrlhf_math.colocation.weight_source import DeepSpeedSource, merged_weights, save_merged, weights_of
from openrlhf_math.modeling import SHARED_PREFIX
from openrlhf_math.modeling.packed_actor import PackedActor

VOCABULARY = 61
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 8}
LATENT = {
    "num_key_value_heads": 6, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "first_k_dense_replace": 1,
}  # fmt: skip
CONFIGS = {
    "qwen2": SHAPE | {"tie_word_embeddings": True},
    "llama": SHAPE,
    "phi3": SHAPE,  # one weight for queries, keys and values
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": 48, "n_layer": 2, "n_head": 6, "bos_token_id": 0, "eos_token_id": 1},
    "qwen3_moe": SHAPE | EXPERTS,
    "deepseek_v3": SHAPE | LATENT,  # a buffer of the router is in its checkpoints
}
TARGETS = [
    *((family, "all-linear") for family in CONFIGS),
    ("qwen2", ["q_proj", "v_proj"]),
    ("qwen2", ["model.layers.1.mlp.down_proj"]),
    ("gpt2", ["c_attn"]),
]


def plain_model(family: str, attention: str = "eager"):
    torch.manual_seed(3)
    config = AutoConfig.for_model(family, **CONFIGS[family])
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def adapted(model, targets="all-linear", **more) -> PeftModel:
    """With adapters that have been trained, as it were: large and not zero."""
    config = LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, lora_alpha=12, target_modules=targets, **more)
    model = get_peft_model(model, config)
    torch.manual_seed(4)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize(("family", "targets"), TARGETS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_merged_weights_match_peft_under_base_names(family, targets, dtype):
    base = plain_model(family).to(dtype)
    names = [name for name, _ in base.named_parameters()]
    model = adapted(base, targets).to(dtype)
    before = {name: each.detach().clone() for name, each in model.named_parameters()}

    weights = {name: each.clone() for name, each in merged_weights(model, zero_stage=2, bytes_at_once=5_000)}
    for name, each in model.named_parameters():
        assert torch.equal(each, before[name]), "sending weights changes none"
    assert list(weights) == names

    exact = copy.deepcopy(model).float()  # PEFT would round the update before it adds it, and then the sum
    expected = dict(exact.merge_and_unload().named_parameters())
    changed = 0
    for name, merged in weights.items():
        assert (merged.shape, merged.dtype) == (expected[name].shape, dtype)
        rounding = 1e-6 if dtype == torch.float32 else 2**-8
        torch.testing.assert_close(merged.float(), expected[name], rtol=rounding, atol=1e-6)
        changed += not any(torch.equal(merged, old) for old in before.values() if old.shape == merged.shape)
    assert changed == len({id(each.parameter) for each in weights_of(model) if each.update}) > 0


@pytest.mark.parametrize(("family", "targets"), TARGETS, ids=str)
def test_engine_gets_the_merged_weights(family, targets):
    model = adapted(plain_model(family), targets)
    found = DeepSpeedSource(model, zero_stage=2, bucket_bytes=5_000)
    weights = {name: each.clone() for name, each in found}
    expected = DeepSpeedSource(copy.deepcopy(model).merge_and_unload(), zero_stage=2, bucket_bytes=5_000)
    assert found.metadata() == expected.metadata()
    for name, each in expected:
        torch.testing.assert_close(weights.pop(name), each, rtol=1e-6, atol=1e-6)
    assert not weights


def test_sharded_weights_are_gathered_with_their_adapters(monkeypatch):
    model = adapted(plain_model("qwen2"))
    expected = {name: each.clone() for name, each in DeepSpeedSource(model, 2, 10**9)}
    for parameter in model.parameters():
        parameter.whole, parameter.ds_shape = parameter.data.clone(), parameter.shape
        parameter.data = torch.empty(0)
    together = []

    @contextmanager
    def gather(parameters, enabled):
        assert enabled
        together.append(sum(each.whole.numel() * 4 for each in parameters))
        for each in parameters:
            each.data = each.whole
        yield
        for each in parameters:
            each.data = torch.empty(0)

    monkeypatch.setattr(deepspeed.zero, "GatheredParameters", gather)
    source = DeepSpeedSource(model, zero_stage=3, bucket_bytes=40_000)
    assert [(each.name, each.shape) for each in source.metadata()] == [(n, tuple(w.shape)) for n, w in expected.items()]
    assert together == []
    weights = dict(source)
    assert len(together) > 3 and max(together) < 60_000
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert all(parameter.numel() == 0 for parameter in model.parameters())


@pytest.mark.parametrize(
    ("targets", "more"),
    [
        (["q_proj"], {"use_dora": True}),
        (["embed_tokens"], {}),
        (["q_proj"], {"modules_to_save": ["lm_head"]}),
        (["q_proj"], {"bias": "lora_only"}),
        (["q_proj"], {"lora_bias": True}),
    ],
    ids=["DoRA", "embeddings", "a whole module", "biases of the layer", "a bias of the adapter"],
)
def test_adapters_other_than_w_plus_b_a_are_refused(targets, more):
    with pytest.raises(ValueError, match="merged|merging"):
        weights_of(adapted(plain_model("qwen2"), targets, **more))


@pytest.mark.parametrize("family", CONFIGS)
def test_saved_files_load_merged_and_as_an_adapter(family, tmp_path):
    plain_model(family).save_pretrained(tmp_path / "base")

    def base():
        return AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)

    model = adapted(base())
    buffers = dict(model.named_buffers())
    for name in buffers:
        if "bias" in name:
            torch.nn.init.normal_(buffers[name])
    with torch.no_grad():
        tokens = torch.randint(2, VOCABULARY, (3, 20))
        trained, untrained = model(tokens).logits, base()(tokens).logits
        tokenizer = SimpleNamespace(save_pretrained=lambda folder: (folder / "tokenizer.json").touch())
        save_merged(model, tokenizer, tmp_path / "model", zero_stage=2, first=True)
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
        whole = base()
        for name, each in whole.named_buffers():  # of a base that was saved with them
            each.copy_(dict(merged.named_buffers())[name])
        adapter = PeftModel.from_pretrained(whole, tmp_path / "model" / "adapter")
        assert (trained - untrained).abs().max() > 0.1
        torch.testing.assert_close(merged(tokens).logits, trained, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(adapter(tokens).logits, trained, rtol=1e-4, atol=1e-5)
    assert (tmp_path / "model" / "tokenizer.json").exists()
    assert (trained == model(tokens).logits).all(), "saving changes nothing"


def test_checkpoint_holds_trained_weights_and_tied_ones_once():
    saved = []

    class Engine:
        module = adapted(plain_model("qwen2"))

        def module_state_dict(self, exclude_frozen_parameters=False) -> dict:
            return self.module.state_dict()

        def save_checkpoint(self, exclude_frozen_parameters=False) -> None:
            saved.append((exclude_frozen_parameters, set(self.module_state_dict())))

    engine = Engine()
    whole = set(engine.module.state_dict())
    trained = {name for name in whole if "lora_" in name}
    assert "base_model.model.lm_head.weight" in whole - trained
    with strategy.without_frozen(engine):
        engine.save_checkpoint()
    engine.save_checkpoint()
    assert saved == [(True, trained), (False, whole)]


def rows(prompts: list[int], completions: list[list[int]]) -> list[tuple[int, torch.Tensor]]:
    """Sequences of random tokens with the length of their prompt; the completions of a group share it."""
    torch.manual_seed(7)
    found = []
    for length, group in zip(prompts, completions, strict=True):
        prompt = torch.randint(2, VOCABULARY, (length,))
        found += [(length, torch.cat([prompt, torch.randint(2, VOCABULARY, (count,))])) for count in group]
    return found


def naive_gradient(model: PeftModel, sequences, coefficients, temperature: float) -> dict[str, torch.Tensor]:
    """Of the sum of coefficients times log-probabilities, one unpadded sequence at a time."""
    for (prompt, row), weights in zip(sequences, coefficients, strict=True):
        logits = model(row[None, :-1]).logits[0, prompt - 1 :].float() / temperature
        log_probs = logits.log_softmax(dim=-1).gather(1, row[prompt:, None])[:, 0]
        (log_probs * weights).sum().backward()
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("family", "targets"), [("qwen2", "all-linear"), ("llama", ["q_proj", "down_proj"]), ("phi3", "all-linear")]
)
def test_packed_gradient_matches_single_sequences(family, targets, checkpointing, tmp_path):
    plain_model(family).bfloat16().save_pretrained(tmp_path)
    actor = PackedActor(
        str(tmp_path), attn_implementation=SHARED_PREFIX, lora_rank=4, lora_alpha=12, target_modules=targets,
        temperature=0.7,
    )  # fmt: skip
    actor.model.float()
    base = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager")
    naive = adapted(base, targets)
    actor.model.load_state_dict(naive.state_dict())
    if checkpointing:
        actor.gradient_checkpointing_enable()
    actor.train()

    sequences = rows([9, 4], [[11, 3, 17, 8], [5, 1, 14]])
    coefficients = [torch.randn(len(row) - prompt) for prompt, row in sequences]
    expected = naive_gradient(naive, sequences, coefficients, 0.7)

    longest = max(len(row) for _, row in sequences)
    padded = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask, actions = torch.zeros_like(padded), torch.zeros(len(sequences), longest - 1, dtype=torch.bool)
    weights = torch.zeros(actions.shape)
    for number, (prompt, row) in enumerate(sequences):
        padded[number, : len(row)], mask[number, : len(row)] = row, 1
        actions[number, prompt - 1 : len(row) - 1] = True
        weights[number, prompt - 1 : len(row) - 1] = coefficients[number]
    (actor(padded, actions, mask) * weights).sum().backward()

    gradients = {name: each.grad for name, each in actor.model.named_parameters() if each.grad is not None}
    assert gradients.keys() == expected.keys()
    assert all("lora_" in name for name in gradients), "only adapters are trained"
    for name, gradient in expected.items():
        assert (gradients[name] - gradient).norm() <= 1e-5 * gradient.norm(), name
        assert gradient.norm() > 0
