"""Reward models in vLLM against transformers, in 32 bits: what is read is what the models' own code gives."""

import json
import math

import pytest
import tiny_scorers
import torch
from safetensors.torch import save_file
from test_scorers import loop, score, stop  # noqa: F401  a fixture
from transformers import (
    LlamaConfig,
    LlamaModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
    Qwen2ForTokenClassification,
    Qwen2Model,
)

from openrlhf_math.rerank.scoring_engine import ScorerSettings, ScoringEngine

pytestmark = pytest.mark.slow

PROBLEM = "Leo has 9 pens. Leo loses 3. How many pens?"
SOLUTIONS = ["9-3=6.\nSo 6", "9-3=7.", "Leo has no pens.\nSo\n\\boxed{7}", "6", "Leo has 9 pens. " * 9, "So 7\nSo 6"]
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 1024}  # fmt: skip


def weighty(model):
    """Weights larger than a fresh model's, whose scores would hardly differ."""
    for parameter in model.parameters():
        parameter.data.mul_(4 if parameter.dim() > 1 else 1)
    return model.eval()


def chat(tokenizer, solution: str, system: str = "") -> list[int]:
    turns = [{"role": "user", "content": PROBLEM}, {"role": "assistant", "content": solution}]
    turns = [{"role": "system", "content": system}, *turns] if system else turns
    return tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)["input_ids"]


def sequence_classifier(directory, tokenizer, config):
    model = weighty(Qwen2ForSequenceClassification(config))
    model.save_pretrained(directory)
    return lambda solution: model(torch.tensor([chat(tokenizer, solution)])).logits[0][0].item()


def token_classifier(directory, tokenizer, config):
    config.num_labels = 2
    model = weighty(Qwen2ForTokenClassification(config))
    model.score.bias.data.normal_()
    model.save_pretrained(directory)

    def expected(solution: str) -> list[float]:
        ids, ends = tokenizer(PROBLEM)["input_ids"], []
        for step in solution.split("\n"):
            ids = ids + tokenizer(step.strip())["input_ids"] + tokenizer("\n")["input_ids"]
            ends.append(len(ids) - 1)
        return model(torch.tensor([ids])).logits[0].softmax(-1)[ends, 1].tolist()

    return expected


def qwen_math(directory, tokenizer, config):
    """https://huggingface.co/Qwen/Qwen2.5-Math-RM-72B: a head of two layers over all tokens, read at the last."""
    model = weighty(Qwen2Model(config))
    head = torch.nn.Sequential(torch.nn.Linear(128, 128), torch.nn.ReLU(), torch.nn.Linear(128, 1))
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    save_file(weights | {f"score.{name}": tensor for name, tensor in head.state_dict().items()},
              directory / "model.safetensors", {"format": "pt"})  # fmt: skip
    config.architectures = ["Qwen2ForRewardModel"]
    config.save_pretrained(directory)
    return lambda text: head(model(torch.tensor([chat(tokenizer, text, SYSTEM)])).last_hidden_state)[0, -1].item()


def internlm2(directory, tokenizer, config):
    """InternLM2 is a Llama whose q, k and v are one matrix, by groups of heads: that Llama is the reference."""
    sizes = {"vocab_size": config.vocab_size, "rms_norm_eps": 1e-6, "pad_token_id": 0, **SIZES}
    model = weighty(LlamaModel(LlamaConfig(**sizes)))
    own = model.state_dict()
    head = torch.nn.Linear(128, 1, bias=False)
    names = {"self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3",
             "mlp.down_proj": "feed_forward.w2", "input_layernorm": "attention_norm",
             "post_attention_layernorm": "ffn_norm"}  # fmt: skip
    weights = {"model.tok_embeddings.weight": own["embed_tokens.weight"], "model.norm.weight": own["norm.weight"],
               "v_head.weight": head.weight.data}  # fmt: skip
    for layer in range(2):
        begin = f"layers.{layer}."
        for theirs, ours in names.items():
            weights[f"model.{begin}{ours}.weight"] = own[f"{begin}{theirs}.weight"]
        q, k, v = (own[f"{begin}self_attn.{name}_proj.weight"].view(2, -1, 32, 128) for name in "qkv")
        weights[f"model.{begin}attention.wqkv.weight"] = torch.cat([q, k, v], 1).reshape(-1, 128).contiguous()
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    end = tokenizer("ки")["input_ids"][0]
    (directory / "config.json").write_text(
        json.dumps(
            sizes
            | {"model_type": "internlm2", "architectures": ["InternLM2ForRewardModel"], "reward_token_id": end}
            | {"auto_map": {"AutoConfig": "configuration_internlm2.InternLM2Config"}, "hidden_act": "silu"}
            | {"bias": False, "tie_word_embeddings": False, "rope_theta": 10000.0, "torch_dtype": "float32"}
        )
    )
    (directory / "configuration_internlm2.py").write_text(
        "from transformers import PretrainedConfig\n\n\nclass InternLM2Config(PretrainedConfig):\n"
        '    model_type = "internlm2"\n'
    )
    return lambda text: head(model(torch.tensor([[*chat(tokenizer, text), end]])).last_hidden_state)[0, -1].item()


def causal_model(directory, tokenizer, config):
    """One token after the other, without the product: a line begins where the last one ended."""
    model = weighty(Qwen2ForCausalLM(config))
    model.save_pretrained(directory)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROBLEM}], tokenize=False, add_generation_prompt=True
    )
    begin = tokenizer(prompt, add_special_tokens=False)["input_ids"]

    def expected(solution: str) -> list[float]:
        ids, lines = list(begin), [[]]
        for token in tokenizer(solution, add_special_tokens=False)["input_ids"]:
            odds = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
            lines[-1].append(odds[token].item())
            ids.append(token)
            if tokenizer.decode([token]).endswith("\n"):
                lines.append([])
        means = [sum(map(math.log, line)) / len(line) for line in lines if line]
        return [sum(means[: number + 1]) for number in range(len(means))]

    return expected


@pytest.mark.parametrize(
    ("kind", "made"),
    [("reward-model", sequence_classifier), ("reward-model", qwen_math), ("reward-model", internlm2),
     ("trl-prm", token_classifier), ("likelihood", causal_model)],
    ids=lambda value: getattr(value, "__name__", value),
)  # fmt: skip
def test_scores_match_the_models_code(loop, tmp_path, monkeypatch, kind, made):  # noqa: F811
    if made is internlm2:
        monkeypatch.setenv("OPENRLHF_MATH_TRUST_REMOTE_CODE", "1")
    tokenizer = tiny_scorers.build_tokenizer(kind)
    tokenizer.save_pretrained(tmp_path)
    config = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 16) * 16, num_labels=1, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, **SIZES,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.no_grad():
        reference = made(tmp_path, tokenizer, config)
        expected = [reference(solution) for solution in SOLUTIONS]

    async def start():
        return ScoringEngine(ScorerSettings(kind, str(tmp_path), "cpu", engine_args={"dtype": "float32"}))

    engine = loop.run_until_complete(start())
    try:
        scores = score(loop, engine, SOLUTIONS, PROBLEM)
    finally:
        stop(loop, engine)
    if kind == "likelihood":  # such a model finds every token unlikely
        scores = [list(map(math.log, steps)) for steps in scores]
    print(made.__name__, scores, expected)
    for one, other in zip(scores, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    flat = [one[-1] if isinstance(one, list) else one for one in expected]
    assert max(flat) - min(flat) > 0.01
