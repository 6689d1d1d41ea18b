"""Heads that vLLM does not compute on a CPU are named before an engine is started: it would die without a word."""

import ast
import importlib.util
from pathlib import Path

import pytest
from transformers import AutoConfig

from openrlhf_math.errors import UserError
from openrlhf_math.modeling.model_kind import CPU_HEAD_SIZES, check_heads


def test_sizes_match_vllm():
    package = Path(importlib.util.find_spec("vllm").origin).parent
    tree = ast.parse((package / "v1/attention/backends/cpu_attn.py").read_text())
    (listed,) = (
        node.body[-1].value for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "get_supported_head_sizes"
    )  # fmt: skip
    assert ast.literal_eval(listed) == list(CPU_HEAD_SIZES)


@pytest.mark.parametrize(
    ("kind", "settings", "runs"),
    [
        ("qwen2", {"hidden_size": 128, "num_attention_heads": 4}, True),
        ("qwen2", {"hidden_size": 32, "num_attention_heads": 4}, False),
        ("qwen3", {"hidden_size": 32, "num_attention_heads": 4, "head_dim": 64}, True),
        ("gemma2", {"head_dim": 16}, False),
        ("gpt2", {"n_embd": 768, "n_head": 12}, True),
        ("gpt2", {"n_embd": 24, "n_head": 2}, False),
        ("mamba", {}, True),
        ("deepseek_v3", {}, True),  # latent attention
    ],
)
def test_other_sizes_are_refused(kind, settings, runs):
    config = AutoConfig.for_model(kind, **settings)
    if runs:
        assert check_heads("--model", "a", config) is None
        return
    with pytest.raises(UserError, match="^--model a: its attention heads"):
        check_heads("--model", "a", config)
