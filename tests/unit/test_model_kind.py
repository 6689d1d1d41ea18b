"""A model that cannot be trained is one sentence, exit code 2, before Ray, in every command that trains."""

import json

import pytest

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world.world import build_tokenizer
from openrlhf_math.modeling.families import positions

BAD = {
    "unknown type": ({"model_type": "nonsense", "architectures": ["NonsenseForCausalLM"]}, "model_type"),
    "no type": ({"architectures": ["LlamaForCausalLM"]}, "model_type"),
    "a number for a type": ({"model_type": 7, "architectures": ["LlamaForCausalLM"]}, "model_type"),
    "not JSON": ("{model_type: llama}", "not JSON"),
    "cut off": ('{"model_type": "llama", "archi', "not JSON"),
    "empty": ("", "not JSON"),
    "binary": ("\x00\x01", "not JSON"),
    "a list": ("[1]", "not a JSON object"),
    "a word": ('"llama"', "not a JSON object"),
    "a wrong value": (
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": "many"},
        "hidden_size",
    ),
}
BAD_LANGUAGE_MODEL = {
    "no architectures": ({"model_type": "llama"}, "architecture"),
    "no architecture": ({"model_type": "llama", "architectures": []}, "architecture"),
    "BERT": ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"),
    "bare BERT": ({"model_type": "bert", "architectures": ["BertModel"]}, "BertModel"),
    "BERT as a language model": ({"model_type": "bert", "architectures": ["BertLMHeadModel"]}, "BertLMHeadModel"),
    "RoBERTa": ({"model_type": "roberta", "architectures": ["RobertaForMaskedLM"]}, "RobertaForMaskedLM"),
    "ModernBERT": ({"model_type": "modernbert", "architectures": ["ModernBertForMaskedLM"]}, "ModernBertForMaskedLM"),
    "T5": ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "T5ForConditionalGeneration"),
    "BART": ({"model_type": "bart", "architectures": ["BartForConditionalGeneration"]}, "BartForConditionalGeneration"),
    "a classifier": ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, "LlamaForSeq"),
    "a PRM": ({"model_type": "qwen2", "architectures": ["Qwen2ForProcessRewardModel"]}, "Qwen2ForProcessRewardModel"),
    "without its head": ({"model_type": "qwen2", "architectures": ["Qwen2Model"]}, "Qwen2Model"),
    "CLIP": ({"model_type": "clip", "architectures": ["CLIPModel"]}, "CLIPModel"),
    "Whisper": (
        {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}, "WhisperFor"
    ),
}  # fmt: skip
GOOD = [
    ("llama", "LlamaForCausalLM"), ("gpt2", "GPT2LMHeadModel"), ("gpt_neox", "GPTNeoXForCausalLM"),
    ("qwen3_moe", "Qwen3MoeForCausalLM"), ("deepseek_v3", "DeepseekV3ForCausalLM"), ("mamba", "MambaForCausalLM"),
    ("gemma3", "Gemma3ForConditionalGeneration"), ("gemma3_text", "Gemma3ForCausalLM"),
    ("qwen3_5", "Qwen3_5ForConditionalGeneration"), ("falcon_h1", "FalconH1ForCausalLM"),
]  # fmt: skip


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    build_tokenizer(["How many apples? 1+1=2."]).save_pretrained(folder)
    return folder


def run(command: str, model, tmp_path, config, *more) -> int:
    (model / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    data = tmp_path / "data.jsonl"
    row = {"problem": "1+1", "answer": "2", "response": "2", "steps": ["a", "b"], "labels": [0.0, 1.0]}
    data.write_text((json.dumps(row) + "\n") * 16)
    words = {
        "grpo": ["grpo", "--actor.model_name_or_path", model, "--data.prompt_dataset", data],
        "sft": ["sft", "--model.model_name_or_path", model, "--data.dataset", data, "--train.batch_size", "8"],
        "prm": ["prm", "train", "--model.model_name_or_path", model, "--data.dataset", data, "--train.batch_size", "8"],
    }[command]
    return main([*map(str, words), "--data.max_len", "512", "--math.run_dir", str(tmp_path / "run"), *more])


def refused(code: int, words: str, capsys, tmp_path) -> None:
    error = capsys.readouterr().err
    assert code == 2 and words in error and "Traceback" not in error
    assert len(error.strip().splitlines()) == 1 and str(tmp_path / "model") in error
    assert "model_name_or_path" in error and not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["grpo", "sft", "prm"])
@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_unreadable_configuration(command, case, more, model, tmp_path, capsys):
    config, words = BAD[case]
    refused(run(command, model, tmp_path, config, *more), words, capsys, tmp_path)


@pytest.mark.parametrize("command", ["grpo", "sft"])
@pytest.mark.parametrize("case", BAD_LANGUAGE_MODEL)
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_non_causal_model_is_refused(command, case, more, model, tmp_path, capsys):
    config, words = BAD_LANGUAGE_MODEL[case]
    refused(run(command, model, tmp_path, config, *more), words, capsys, tmp_path)


@pytest.mark.parametrize("case", ["BERT", "T5", "a classifier"])
def test_model_without_a_token_classifier_cannot_be_a_prm(case, model, tmp_path, capsys):
    refused(run("prm", model, tmp_path, BAD_LANGUAGE_MODEL[case][0]), "token classifier", capsys, tmp_path)


@pytest.mark.parametrize(("kind", "architecture"), GOOD)
def test_language_models_are_taken(kind, architecture, model, tmp_path):
    config = {"model_type": kind, "architectures": [architecture]}
    assert run("grpo", model, tmp_path, config, "--dry-run") == 0
    assert run("sft", model, tmp_path, config, "--dry-run") == 0


YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 100}


@pytest.mark.parametrize(
    ("kind", "settings", "most"),
    [
        ("gpt2", {"n_positions": 128}, 128),
        ("llama", {"max_position_embeddings": 300}, 300),
        ("llama", {"max_position_embeddings": 100, "rope_parameters": YARN}, 400),
        ("llama", {"max_position_embeddings": 400, "rope_parameters": YARN}, 400),
        ("bloom", {}, float("inf")),
        ("mamba", {}, float("inf")),
        ("qwen2_vl", {"text_config": {"max_position_embeddings": 77}}, 77),
    ],
)
def test_positions_of_a_model(kind, settings, most):
    from transformers import AutoConfig

    assert positions(AutoConfig.for_model(kind, **settings)) == most
