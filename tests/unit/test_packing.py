"""Packed rows with shared prompts: the same log-probabilities, entropies and gradients as the padded batch."""

from types import SimpleNamespace

import pytest
import torch
from openrlhf.models import Actor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from openrlhf_math.modeling import SHARED_PREFIX, log_prob_head
from openrlhf_math.modeling.log_prob_head import LogitTransform, LogProbs
from openrlhf_math.modeling.packed_actor import PackedActor
from openrlhf_math.modeling.packing import pack, unpack

VOCABULARY = 61
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
FAMILIES = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}


def batch(prompts: list[int], completions: list[list[int]], seed: int = 0) -> SimpleNamespace:
    """A right-padded batch of groups. prompts: length of each; completions: lengths, one list a prompt."""
    torch.manual_seed(seed)
    rows = []
    for length, group in zip(prompts, completions, strict=True):
        prompt = torch.randint(1, VOCABULARY, (length,))
        rows += [(length, torch.cat([prompt, torch.randint(1, VOCABULARY, (count,))])) for count in group]
    longest = max(len(row) for _, row in rows)
    sequences = torch.zeros(len(rows), longest, dtype=torch.long)
    attention_mask = torch.zeros_like(sequences)
    action_mask = torch.zeros(len(rows), longest - 1, dtype=torch.bool)
    for number, (prompt, row) in enumerate(rows):
        sequences[number, : len(row)] = row
        attention_mask[number, : len(row)] = 1
        action_mask[number, prompt - 1 : len(row) - 1] = True
    return SimpleNamespace(sequences=sequences, attention_mask=attention_mask, action_mask=action_mask)


@pytest.fixture
def actors(request):
    """OpenRLHF's actor and ours with the same weights, float32."""
    family, tied = getattr(request, "param", ("qwen2", False))
    config, model = FAMILIES[family]

    def build(attention):
        torch.manual_seed(3)
        return model(config(**SHAPE, tie_word_embeddings=tied, attn_implementation=attention))

    plain, packed = Actor(build("eager"), temperature=0.7), PackedActor(build("sdpa"), SHARED_PREFIX, temperature=0.7)
    plain.packing_samples = packed.packing_samples = False
    return plain, packed


def outcome(actor, data, entropy_weight: float):
    torch.manual_seed(5)
    weights = torch.randn(data.action_mask.shape) * data.action_mask
    log_probs, output = actor(
        data.sequences, data.action_mask, data.attention_mask, return_output=True, return_entropy=True
    )
    entropy = output.entropy[:, -data.action_mask.shape[1] :] * data.action_mask
    ((log_probs * weights).sum() + entropy_weight * (entropy * weights).sum()).backward()
    return log_probs.detach(), entropy.detach(), {n: p.grad for n, p in actor.model.named_parameters()}


@pytest.mark.parametrize("actors", [("qwen2", False), ("qwen2", True), ("llama", True)], indirect=True, ids=str)
@pytest.mark.parametrize("entropy_weight", [0.0, 0.3])
@pytest.mark.parametrize(
    ("prompts", "completions"),
    [([7, 11], [[5, 9, 2], [4, 4, 8]]), ([6], [[3]]), ([3, 30, 4], [[20, 1], [2], [9, 9, 9, 1]])],
    ids=["two groups", "one row", "uneven"],
)
def test_packed_equals_padded(actors, prompts, completions, entropy_weight):
    data = batch(prompts, completions)
    expected, found = (outcome(actor, data, entropy_weight) for actor in actors)
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=1e-5)
    for name, gradient in expected[2].items():
        torch.testing.assert_close(found[2][name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def test_chunks_of_logits_change_nothing(actors, monkeypatch):
    data = batch([7, 11], [[5, 9, 2], [4, 4, 8]])
    whole = outcome(actors[1], data, 0.3)
    actors[1].model.zero_grad()
    monkeypatch.setattr(log_prob_head, "CHUNK_ELEMENTS", 3 * VOCABULARY)  # three tokens at a time
    for one, other in zip(outcome(actors[1], data, 0.3)[:2], whole[:2], strict=True):
        torch.testing.assert_close(one, other)


def test_row_contains_the_prompt_once():
    data = batch([10], [[5, 6, 7, 8]])
    packed = pack(data.sequences, data.attention_mask, data.action_mask)
    assert packed.input_ids.shape == (1, 10 + 4 + 5 + 6 + 7)  # a completion's last token is only predicted
    assert len(packed.targets) == 5 + 6 + 7 + 8


def test_unpack_restores_each_action():
    data = batch([4, 5], [[3, 1], [2]])
    packed = pack(data.sequences, data.attention_mask, data.action_mask)
    back = unpack(packed.targets, packed)
    assert torch.equal(back[data.action_mask], data.sequences[:, 1:][data.action_mask])
    assert not back[~data.action_mask].any()


@pytest.mark.parametrize("transform", [LogitTransform(), LogitTransform(0.3), LogitTransform(2.0, 1.5)], ids=str)
def test_head_gradient_matches_its_formula(transform):
    torch.manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((4, 5), (9, 5), (9,))
    )
    targets = torch.tensor([1, 8, 0, 3])
    logits = (hidden @ weight.t() + bias) * transform.scale
    if transform.softcap:
        logits = transform.softcap * torch.tanh(logits / transform.softcap)
    log_p = torch.log_softmax(logits / 0.5, dim=-1)
    expected = log_p.gather(1, targets[:, None]).sum() * 2 - (log_p.exp() * log_p).sum()
    expected.backward()
    gradients = [leaf.grad.clone() for leaf in (hidden, weight, bias)]
    for leaf in (hidden, weight, bias):
        leaf.grad = None
    log_probs, entropies = LogProbs.apply(hidden, weight, bias, targets, 0.5, transform)
    (log_probs.sum() * 2 + entropies.sum()).backward()
    for leaf, gradient in zip((hidden, weight, bias), gradients, strict=True):
        torch.testing.assert_close(leaf.grad, gradient, atol=1e-4, rtol=1e-4)
