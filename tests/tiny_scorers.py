"""Tiny scorers with random weights in the forms in which such models are published, and what transformers says of them.

The weights are larger than a fresh model's: its scores would hardly differ from step to step.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from openrlhf_math.rerank.steps import STEP_TAG

WORDS = [
    "Leo has 9 pens. How many pens?",
    "Step 1: 9-3=6.\nStep 2: 6+3=9. ки\n",
    "Yes\nNo\n+\n-",
    "The answer is \\boxed{9}.",
]


def build_tokenizer(kind: str):
    """A tokenizer with what a kind needs of it."""
    from openrlhf_math.data.tiny_world.world import build_tokenizer

    tokenizer = build_tokenizer(WORDS * 20)
    if kind == "qwen2.5-math-prm":
        tokenizer.add_special_tokens({"extra_special_tokens": [STEP_TAG]})
    if kind == "skywork-o1-prm":
        tokenizer.bos_token = "<|endoftext|>"
    return tokenizer


def build(kind: str, directory: Path, seed: int = 0) -> Path:
    """Write a model of a kind into a directory, with its tokenizer. Returns the directory."""
    from openrlhf_math.data.tiny_world.world import build_model

    tokenizer = build_tokenizer(kind)
    model = build_model(-(-len(tokenizer) // 16) * 16, tokenizer.eos_token_id, tokenizer.pad_token_id, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    HEADS.get(kind, lambda directory: None)(directory)
    return directory


def _token_head(directory: Path) -> None:
    """Qwen2ForProcessRewardModel: https://huggingface.co/Qwen/Qwen2.5-Math-PRM-7B, modeling_qwen2_rm.py"""
    _with_head(
        directory,
        "Qwen2ForProcessRewardModel",
        {
            "score.0.weight": 0.1 * torch.randn(128, 128),
            "score.0.bias": 0.1 * torch.randn(128),
            "score.2.weight": 0.1 * torch.randn(2, 128),
            "score.2.bias": 0.1 * torch.randn(2),
        },
    )


def _value_head(directory: Path) -> None:
    """Skywork-o1-Open-PRM: TRL's value head."""
    head = {"v_head.summary.weight": 0.1 * torch.randn(1, 128), "v_head.summary.bias": torch.tensor([0.3])}
    _with_head(directory, "Qwen2ForPrmModel", head)


def _regression(directory: Path) -> None:
    """What OpenRLHF's train_rm saves, by OpenRLHF's own class."""
    from openrlhf.models import get_llm_for_sequence_regression

    model = get_llm_for_sequence_regression(
        str(directory), "reward", normalize_reward=True, attn_implementation="eager", init_value_head=True
    )
    model.score.weight.data.mul_(10)
    model.config.value_head_prefix, model.config.mean, model.config.std = "score", 0.25, 2.0
    model.save_pretrained(directory)


OWN = "own_scorer.StepVerifier"  # of examples/
sys.path.append(str(Path(__file__).parents[1] / "examples"))

VERDICTS = {"math-shepherd": ("+", "-"), "rlhflow-prm": ("+", "-"), "verifier": ("Yes", "No"), OWN: ("Yes", "No")}
HEADS: dict[str, Callable[[Path], None]] = {
    "qwen2.5-math-prm": _token_head,
    "skywork-o1-prm": _value_head,
    "reward-model": _regression,
}


KINDS = [
    "qwen2.5-math-prm",
    "math-shepherd",
    "rlhflow-prm",
    "skywork-o1-prm",
    "reward-model",
    "verifier",
    "likelihood",
    OWN,
]


def _with_head(directory: Path, architecture: str, head: dict[str, torch.Tensor]) -> None:
    weights = load_file(directory / "model.safetensors")
    weights.pop("lm_head.weight")
    save_file(weights | {name: tensor.bfloat16() for name, tensor in head.items()}, directory / "model.safetensors")
    config = json.loads((directory / "config.json").read_text()) | {"architectures": [architecture]}
    (directory / "config.json").write_text(json.dumps(config))


class Reference:
    """The same model in transformers: the logits of every token."""

    def __init__(self, kind: str, directory: Path, dtype=torch.float32, attention: str = "sdpa") -> None:
        from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

        tokens = AutoTokenizer.from_pretrained(directory).convert_tokens_to_ids(VERDICTS.get(kind, ()))
        weights = load_file(directory / "model.safetensors")
        cls = AutoModelForCausalLM if tokens or kind == "likelihood" else AutoModel
        self.model = cls.from_pretrained(directory, dtype=dtype, attn_implementation=attention).eval()
        self.kind, self.tokens = kind, tokens
        config = AutoConfig.from_pretrained(directory)
        self.mean, self.std = getattr(config, "mean", 0.0), getattr(config, "std", 1.0)
        self.head = {
            "qwen2.5-math-prm": lambda: nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2)),
            "skywork-o1-prm": lambda: nn.Linear(128, 1),
            "reward-model": lambda: nn.Linear(128, 1, bias=False),
        }.get(kind, nn.Identity)()
        prefix = {"skywork-o1-prm": "v_head.summary."}.get(kind, "score.")
        self.head.load_state_dict(
            {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        )
        self.head.to(torch.float32)

    @torch.no_grad()
    def __call__(self, ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits [batch, tokens, labels] for ids [batch, tokens]; of causal models the log-odds, good against bad, or
        log-probabilities of the vocabulary where that is what is read."""
        output = self.model(ids, attention_mask=attention_mask)
        if self.kind == "likelihood":
            return output.logits.float().log_softmax(-1)
        if self.tokens:
            good, bad = self.tokens
            return (output.logits[..., good] - output.logits[..., bad]).float()[..., None]
        return (self.head(output.last_hidden_state.float()) - self.mean) / self.std
