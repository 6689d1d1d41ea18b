"""The actor computes what each family's own model computes of one unpadded sequence at a time, and its gradient."""

import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

sys.path.insert(0, str(Path(__file__).parents[1]))  # before tests/benchmarks, which has a families.py as well

import families
import naive_grpo
from families import FAMILIES

from openrlhf_math.modeling import attention, fused_attention

DATA = naive_grpo.batch(families.FIRST_WORD, families.VOCABULARY)
LAYER_KINDS = [
    "qwen2-window", "qwen3-moe", "qwen3.5", "llama4-text", "gemma2", "gemma3", "gemma4-text-shared", "granite-4-h",
    "lfm2", "deepseek-v3", "gpt-oss", "seed-oss", "phi3-longrope", "nemotron",
]  # fmt: skip
LOGITS_CHANGED = ["phi", "gemma2", "gemma4", "granite", "cohere2", "falcon-h1", "hyperclovax", "minicpm3", "nanochat"]
BY_LENGTH = ["llama-dynamic", "phi3-longrope"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A family's saved model, made when first asked for."""
    return cache(lambda name: families.build(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def reference(saved):
    """What a family's own model computes, and how much of what comes later it sees."""

    @cache
    def made(name: str) -> tuple[naive_grpo.Outcome, float]:
        model = families.load(name, saved(name))
        return naive_grpo.outcome(model, DATA), naive_grpo.leak(model, DATA)

    return made


@pytest.mark.parametrize("name", FAMILIES)
def test_reference_is_causal(reference, name):
    outcome, leak = reference(name)
    assert leak == pytest.approx(0, abs=1e-5)
    assert outcome.log_probs[DATA.action_mask].std() > 0.1


@pytest.mark.parametrize("name", FAMILIES)
def test_log_probs_entropies_and_gradients_match_the_model(saved, reference, name):
    found = naive_grpo.difference(families.trained(families.actor(saved(name)), DATA), reference(name)[0])
    assert found.log_probs < 1e-4
    assert found.entropies < 1e-3
    assert found.gradient < 1e-4


@pytest.mark.parametrize("name", LAYER_KINDS)
def test_gradient_checkpointing_changes_nothing(saved, reference, name):
    policy = families.actor(saved(name), checkpointing=True)
    layers = [each for each in policy.model.modules() if isinstance(each, GradientCheckpointingLayer)]
    assert any(layer.gradient_checkpointing and layer.training for layer in layers)
    found = naive_grpo.difference(families.trained(policy, DATA), reference(name)[0])
    assert found.log_probs < 1e-4
    assert found.gradient < 1e-4


@pytest.mark.parametrize("name", LAYER_KINDS)
def test_bfloat16_differs_only_by_rounding(saved, reference, name):
    """Each model's own attention in bfloat16: 0.008 to 0.050 nats, cosine 0.997; a window ignored: 0.43 and 0.92."""
    outcome = families.trained(families.actor(saved(name), "bf16"), DATA)
    expected = reference(name)[0]
    assert (outcome.log_probs - expected.log_probs)[DATA.action_mask].abs().mean() < 0.08
    assert naive_grpo.difference(outcome, expected).cosine > 0.99


@pytest.mark.parametrize("name", LAYER_KINDS + BY_LENGTH[:1])
def test_rollout_log_probs_match_training(saved, reference, name):
    """Row by row, in evaluation mode, without a gradient: what a batch that trains gives as well."""
    policy = families.actor(saved(name)).eval()
    with torch.no_grad():
        rows = [
            policy(DATA.sequences[row], DATA.action_mask[row], DATA.attention_mask[row])
            for row in torch.arange(len(DATA.rows)).split(1)
        ]
    assert (torch.cat(rows) - reference(name)[0].log_probs).abs().max() < 1e-4


@pytest.mark.parametrize("name", BY_LENGTH)
def test_earlier_inputs_change_nothing(saved, reference, name):
    policy = families.actor(saved(name))
    families.trained(policy, DATA)
    found = naive_grpo.difference(families.trained(policy, DATA), reference(name)[0])
    assert found.log_probs < 1e-4
    assert found.gradient < 1e-4


@pytest.mark.parametrize("name", LOGITS_CHANGED)
def test_entropy_gradient_includes_the_logit_transform(saved, name):
    expected = naive_grpo.outcome(families.load(name, saved(name)), DATA, entropy_weight=0.5)
    outcome = families.trained(families.actor(saved(name)), DATA, entropy_weight=0.5)
    assert naive_grpo.difference(outcome, expected).gradient < 1e-4


@pytest.mark.parametrize("name", ["qwen2", "qwen2-window", "gemma2", "llama4-text", "deepseek-v3", "gpt-oss"])
def test_long_segment_kernels_are_exact(saved, reference, monkeypatch, name):
    """Every piece counts as long, and goes through blocks of a few queries."""
    monkeypatch.setattr(attention, "SHORT", 0)
    monkeypatch.setattr(attention, "BLOCK", 4)
    monkeypatch.setattr(fused_attention, "BLOCK", 5)
    found = naive_grpo.difference(families.trained(families.actor(saved(name)), DATA), reference(name)[0])
    assert found.log_probs < 1e-4
    assert found.gradient < 1e-4
