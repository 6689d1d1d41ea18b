"""A damaged model is one sentence before it is trained: Transformers would draw what is missing at random."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world.world import build_tokenizer
from openrlhf_math.errors import UserError
from openrlhf_math.modeling.model_folder import check_weights

PROJECTION = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A tiny model with its tokenizer."""
    folder, tokenizer = tmp_path_factory.mktemp("sound"), build_tokenizer(["Tom has 4 books.", "1 + 1 = 2"])
    config = Qwen2Config(
        vocab_size=384, hidden_size=128, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=False,
    )  # fmt: skip
    Qwen2ForCausalLM(config).bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def model(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "model")


def without(name):
    def damage(model):
        weights = load_file(model / "model.safetensors")
        del weights[name]
        save_file(weights, model / "model.safetensors", {"format": "pt"})

    return damage


def reshaped(model):
    weights = load_file(model / "model.safetensors")
    save_file(weights | {"model.norm.weight": torch.ones(127)}, model / "model.safetensors", {"format": "pt"})


def cut_off(model):
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:-100])


def a_pointer(model):
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\nsize 3\n")


def without_a_shard(model):
    (model / "model.safetensors").rename(model / "model-00002-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": {PROJECTION: "model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def configured(**changes):
    def damage(model):
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | changes))

    return damage


DAMAGES = {
    "a weight": (without(PROJECTION), PROJECTION),
    "the output head": (without("lm_head.weight"), "lm_head.weight"),
    "another shape": (reshaped, "model.norm.weight"),
    "cut off": (cut_off, "model.safetensors is damaged"),
    "a pointer": (a_pointer, "model.safetensors is damaged"),
    "a shard": (without_a_shard, "model-00001-of-00002.safetensors"),
    "more layers": (configured(num_hidden_layers=3, layer_types=None), "model.layers.2."),
    "a larger vocabulary": (configured(vocab_size=512), "embed_tokens"),
    "an unknown activation": (configured(hidden_act="nope"), "nope"),
    "no heads": (configured(num_attention_heads=0), "cannot be loaded"),
}


def test_sound_model_passes(sound):
    assert check_weights("--model", str(sound)) is None
    assert check_weights("--model", "some/name") is None  # of a hub


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_model_is_refused(model, name):
    damage, word = DAMAGES[name]
    damage(model)
    with pytest.raises(UserError) as refusal:
        check_weights("--model", str(model))
    assert "--model" in str(refusal.value) and str(model) in str(refusal.value) and word in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_head_that_is_new_may_be_missing(model):
    without("lm_head.weight")(model)
    assert check_weights("--model", str(model), new=("lm_head.",)) is None


def test_directory_without_weights_is_for_dry_runs_alone(model):
    (model / "model.safetensors").unlink()
    assert check_weights("--model", str(model), may_be_missing=True) is None
    with pytest.raises(UserError):
        check_weights("--model", str(model))


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("command", ["grpo", "sft"])
def test_no_command_starts_on_a_model_that_lacks_a_weight(model, tmp_path, capsys, command, dry):
    without(PROJECTION)(model)
    data = tmp_path / "data.jsonl"
    data.write_text(16 * '{"problem": "1 + 1", "answer": "2", "response": "2"}\n')
    key, flag = ("actor", "--data.prompt_dataset") if command == "grpo" else ("model", "--data.dataset")
    words = [
        command, f"--{key}.model_name_or_path", model, flag, data, "--math.run_dir", tmp_path / "run",
        "--math.device", "cpu", "--data.max_len", 256, "--train.batch_size", 16,
    ]  # fmt: skip
    if command == "grpo":
        words += ["--rollout.batch_size", 2]
    assert main([*map(str, words), *(["--dry-run"] if dry else [])]) == 2
    assert PROJECTION in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def of_tokenizer(name, text):
    def damage(model):
        if text is None:
            (model / name).unlink()
        else:
            (model / name).write_text(text)

    return damage


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (of_tokenizer("tokenizer.json", None), "tokenizer.json"),  # Transformers makes one of three tokens
        (of_tokenizer("tokenizer.json", "[]"), "tokenizer cannot be read"),
        (of_tokenizer("tokenizer_config.json", "[]"), "tokenizer cannot be read"),
        (configured(vocab_size=100), "vocab_size"),
    ],
)
def test_tokenizer_that_does_not_fit_is_refused(model, tmp_path, capsys, damage, word):
    damage(model)
    data = tmp_path / "data.jsonl"
    data.write_text(16 * '{"problem": "Tom has 4 books.", "response": "2"}\n')
    words = ["sft", "--model.model_name_or_path", model, "--data.dataset", data, "--math.run_dir", tmp_path / "run",
             "--math.device", "cpu", "--train.batch_size", 16]  # fmt: skip
    assert main([*map(str, words)]) == 2
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (without(PROJECTION), PROJECTION),
        (configured(quantization_config={"quant_method": "fp8"}), "quantised"),
        (of_tokenizer("chat_template.jinja", "{% if %}"), "chat template"),
        (configured(max_position_embeddings=5), "5 positions"),
    ],
)
def test_reward_model_does_not_start_from_a_damaged_base(model, tmp_path, capsys, damage, word):
    damage(model)
    data = tmp_path / "data.jsonl"
    row = {"problem": "1 + 1", "steps": ["1 + 1 = 2", "= 3"], "labels": [1.0, 0.0], "source": "here"}
    data.write_text(8 * (json.dumps(row) + "\n"))
    words = ["prm", "train", "--model.model_name_or_path", model, "--data.dataset", data, "--math.run_dir",
             tmp_path / "run", "--math.device", "cpu", "--train.batch_size", 8]  # fmt: skip
    assert main([*map(str, words)]) == 2
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
