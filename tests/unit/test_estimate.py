"""The dry run's estimate of a step on GPUs, against models that are built, tensors that are kept, a measured run."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from openrlhf_math.grpo.estimate import KNOWN, Phase, Shape, phases, print_phases, shape_of, shortest_step
from openrlhf_math.grpo.flags import build_parser
from openrlhf_math.grpo.gpus import GPUS
from openrlhf_math.grpo.settings import resolve

SMALL = Shape(layers=3, hidden=256, heads=4, kv_heads=2, head_size=64, inner=704, vocabulary=512)
# As the hub gives them for the weights' files.
PUBLISHED = {
    "Qwen2.5-0.5B": 494_032_768,
    "Qwen2.5-1.5B": 1_543_714_304,
    "Qwen2.5-7B": 7_615_616_512,
    "Qwen2.5-32B": 32_763_876_352,
}


def config_of(shape: Shape, **more) -> Qwen2Config:
    return Qwen2Config(
        num_hidden_layers=shape.layers, hidden_size=shape.hidden, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, intermediate_size=shape.inner, vocab_size=shape.vocabulary, **more,
    )  # fmt: skip


def settings(*flags: str) -> SimpleNamespace:
    needed = ["--model", "Qwen/Qwen2.5-7B", "--problems", "p.jsonl", "--output", "r", "--math.device", "cuda"]
    return resolve(build_parser("grpo").parse_args([*needed, *flags]))


@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_of_the_recipes_models_have_the_published_number_of_weights(name):
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config_of(KNOWN[name], tie_word_embeddings="7B" not in name and "32B" not in name))
    assert sum(weight.numel() for weight in model.parameters()) == PUBLISHED[name]


def test_model_shape_is_read_from_its_directory(tmp_path):
    config_of(SMALL).save_pretrained(tmp_path)
    assert shape_of(str(tmp_path)) == SMALL
    assert shape_of("Qwen/Qwen2.5-32B-Instruct") == KNOWN["Qwen2.5-32B"]
    assert shape_of("nobody/nothing") is None


def test_kv_memory_matches_the_transformers_cache():
    model = Qwen2ForCausalLM(config_of(SMALL)).bfloat16()
    cache = model(torch.zeros(1, 10, dtype=torch.long), use_cache=True).past_key_values
    kept = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    assert SMALL.kv_bytes == kept / 10


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activation_memory_matches_pytorch(checkpointing):
    """Measured: the storages that autograd keeps in the layers, without the weights and what all layers share."""
    tokens = 512
    model = Qwen2ForCausalLM(config_of(SMALL, attn_implementation="sdpa")).bfloat16().train()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage, storage.nbytes())
        return tensor

    hidden = torch.randn(1, tokens, SMALL.hidden, dtype=torch.bfloat16, requires_grad=True)
    position = model.model.rotary_emb(hidden, torch.arange(tokens)[None])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model.layers[0](hidden, position_embeddings=position, attention_mask=None)
    layer = sum(size for _, size in kept.values()) / tokens
    wanted = SMALL.layers * SMALL.hidden * 2 + layer if checkpointing else SMALL.layers * layer
    assert SMALL.activation_bytes(checkpointing) == pytest.approx(wanted, rel=0.15)


def naive_decode(weights: float, token: float, sequences: int, prompt: int, length: int, gpu) -> float:
    """Seconds of one batch, token by token: each step reads the weights and what is in the cache by then."""
    return sum(
        max(
            (weights + sequences * token * (prompt + done)) / gpu.bandwidth,
            weights * sequences / gpu.products,  # two operations a weight of two bytes
        )
        for done in range(length)
    )


@pytest.mark.parametrize("kind", GPUS)
@pytest.mark.parametrize("samples", [2, 8, 64])
def test_generation_time_matches_a_loop_over_tokens(kind, samples):
    args = settings("--rollout.batch_size", "16", "--rollout.n_samples_per_prompt", str(samples),
                    "--vllm.num_engines", "2", "--data.max_len", "1500", "--rollout.max_new_tokens", "1024",
                    "--actor.num_gpus_per_node", "2", "--vllm.gpu_memory_utilization", "0.8")  # fmt: skip
    shape, gpu = KNOWN["Qwen2.5-7B"], GPUS[kind]
    found = phases(args, shape, gpu)[0]
    sequences = 8 * samples
    name = next(name for name in found.memory if name.startswith("KV"))
    at_once = int(name.split()[3])
    batches = [at_once] * (sequences // at_once) + ([sequences % at_once] if sequences % at_once else [])
    naive = sum(naive_decode(2 * 7e9, shape.kv_bytes, batch, 476, 1024, gpu) for batch in batches)
    assert 0.9 * naive <= found.seconds <= naive * (1.001 if len(batches) == 1 else 1.35)  # the last round is not full
    # What is in the cache at half of the way fits.
    assert at_once * shape.kv_bytes * (476 + 512) <= found.memory[name]


def test_full_cache_generates_in_rounds():
    lengths = ("--data.max_len", "9216", "--rollout.max_new_tokens", "8192", "--rollout.n_samples_per_prompt")
    few, many = settings(*lengths, "8"), settings(*lengths, "256")
    shape = KNOWN["Qwen2.5-7B"]
    seconds = [phases(args, shape, GPUS["h100"])[0].seconds for args in (few, many)]
    assert seconds[1] > 10 * seconds[0]


def test_estimates_match_h200_measurements():
    """1.31 billion parameters on one GPU: 14.6 GiB were offloaded, 2.6 GB of weights went to the engine."""
    args = settings()
    args.math = replace(args.math, parameters=1_310_000_000)
    found = {phase.name: phase for phase in phases(args, KNOWN["Qwen2.5-1.5B"], GPUS["h200"])}
    assert found["offload and reload"].wire["host"] / 2**30 == pytest.approx(14.6, rel=0.01)
    assert found["transfer"].memory["weights of the engine"] / 1e9 == pytest.approx(2.6, rel=0.01)
    # The floors are below what it took: 0.24 s, 3.1 s, 13 s, and 0.8 s in one direction.
    assert found["transfer"].seconds < 0.24
    assert found["offload and reload"].seconds / 2 < 0.8


def test_zero_3_traffic_is_two_weight_copies_and_one_gradient_copy():
    flags = ["--ds.zero_stage", "3", "--actor.num_gpus_per_node", "8", "--train.max_tokens_per_gpu", "16384",
             "--rollout.batch_size", "64", "--rollout.n_samples_per_prompt", "16",
             "--data.max_len", "4096"]  # fmt: skip
    shape, gpu = KNOWN["Qwen2.5-7B"], GPUS["h100"]
    one = {phase.name: phase for phase in phases(settings(*flags, "--vllm.num_engines", "8"), shape, gpu)}["training"]
    passes = math.ceil(64 * 16 * 4096 / 8 / 16384)
    assert one.wire["ZeRO"] == pytest.approx(passes * 6 * 7e9 * 7 / 8)
    args = settings(*flags, "--actor.num_nodes", "4", "--vllm.num_engines", "32")
    four = {phase.name: phase for phase in phases(args, shape, gpu)}["training"]
    passes = math.ceil(64 * 16 * 4096 / 32 / 16384)
    assert four.wire["ZeRO"] == pytest.approx(passes * 6 * 7e9 * 31 / 32)
    assert four.memory["states"] == pytest.approx(16 * 7e9 / 32)


def test_old_log_probabilities_and_checkpointing_cost_a_forward_pass_each():
    shape, gpu = KNOWN["Qwen2.5-7B"], GPUS["h100"]

    def seconds(*flags: str) -> float:
        return {phase.name: phase for phase in phases(settings(*flags), shape, gpu)}["training"].seconds

    plain, checkpointing = seconds(), seconds("--actor.gradient_checkpointing_enable")
    assert (checkpointing - plain) / plain == pytest.approx(1 / 3, rel=0.02)


def test_output_and_configurations_that_do_not_fit(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    args = settings("--model", "Qwen/Qwen2.5-32B-Instruct")
    print_phases(args, "a100")
    shown = capsys.readouterr().out
    assert "A step on a100" in shown
    assert "Note: training needs" in shown
    print_phases(settings("--model", "nobody/nothing-7B"), "a100")
    assert "A step on" not in capsys.readouterr().out


@pytest.mark.parametrize(("generation", "training", "overlap", "seconds"), [(5, 3, 0, 9), (5, 3, 1, 6), (2, 3, 1, 4)])
def test_with_overlap_the_longer_phase_sets_the_pace(generation, training, overlap, seconds):
    found = [Phase("generation", seconds=generation), Phase("training", seconds=training), Phase("transfer", seconds=1)]
    assert shortest_step(found, overlap) == seconds
