"""Attention heads that vLLM computes on a CPU. With heads of another size its process dies without a word."""

from openrlhf_math.errors import UserError
from openrlhf_math.modeling.families import ModelConfig

SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)  # elements; vllm/v1/attention/backends/cpu_attn.py


def check_heads(flag: str, model: str, config: ModelConfig) -> None:
    """Raise UserError for a model whose heads vLLM does not compute on a CPU. config: Transformers', of a whole model.

    Latent attention has a kernel of its own and is left out.
    """
    text = config.get_text_config()
    if getattr(text, "kv_lora_rank", None) or not getattr(text, "num_attention_heads", None):
        return
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    if size not in SIZES:
        raise UserError(
            f"{flag} {model}: its attention heads have {size} elements, and vLLM on a CPU takes only "
            f"{', '.join(map(str, SIZES))}; choose another model, or run it on a GPU"
        )
