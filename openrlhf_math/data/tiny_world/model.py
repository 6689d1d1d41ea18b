"""A Qwen2 with random weights, small enough to train from nothing on a laptop."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def build_model(vocabulary: int, eos: int, pad: int, seed: int, larger: bool = False) -> "PreTrainedModel":
    """A `Qwen2ForCausalLM` of about 0.8M parameters, the larger of 2.2M, bf16, the same weights for the same seed."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=192 if larger else 128,
        intermediate_size=528 if larger else 352,
        num_hidden_layers=5 if larger else 4,
        num_attention_heads=6 if larger else 4,  # of 32, the smallest head vLLM's CPU attention serves
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(config).to(torch.bfloat16)
