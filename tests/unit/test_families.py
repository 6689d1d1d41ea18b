"""The actor computes what each family's own model computes of one unpadded sequence at a time, and its gradient."""

import sys
from functools import cache
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))

import families
import naive_grpo
from families import FAMILIES

DATA = naive_grpo.batch(families.FIRST_WORD, families.VOCABULARY)
LAYER_KINDS = [
    "qwen2-window", "qwen3-moe", "qwen3.5", "llama4-text", "gemma2", "gemma3", "gemma4-text-shared", "granite-4-h",
    "lfm2", "deepseek-v3", "gpt-oss", "seed-oss", "phi3-longrope", "nemotron",
]  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A family's saved model and what it computes, made when first asked for."""

    @cache
    def made(name: str) -> tuple[Path, naive_grpo.Outcome, float]:
        directory = families.build(name, tmp_path_factory.mktemp(name))
        model = families.load(name, directory)
        return directory, naive_grpo.outcome(model, DATA), naive_grpo.leak(model, DATA)

    return made


@pytest.mark.parametrize("name", FAMILIES)
def test_the_reference_is_causal(reference, name):
    _, outcome, leak = reference(name)
    assert leak == pytest.approx(0, abs=1e-5)
    assert outcome.log_probs[DATA.action_mask].std() > 0.1


@pytest.mark.parametrize("name", FAMILIES)
def test_log_probs_entropies_and_gradients_are_those_of_the_model(reference, name):
    directory, expected, _ = reference(name)
    found = naive_grpo.difference(families.trained(families.actor(directory), DATA), expected)
    assert found.log_probs < 1e-4
    assert found.entropies < 1e-3
    assert found.gradient < 1e-4


@pytest.mark.parametrize("name", LAYER_KINDS)
def test_gradient_checkpointing_changes_nothing(reference, name):
    directory, expected, _ = reference(name)
    policy = families.actor(directory, checkpointing=True)
    found = naive_grpo.difference(families.trained(policy, DATA), expected)
    assert found.log_probs < 1e-4
    assert found.gradient < 1e-4


@pytest.mark.parametrize("name", LAYER_KINDS)
def test_bfloat16_differs_by_its_rounding(reference, name):
    directory, expected, _ = reference(name)
    found = naive_grpo.difference(families.trained(families.actor(directory, "bf16"), DATA), expected)
    assert found.log_probs < 0.5
    assert found.cosine > 0.98
