"""What a model does to its logits is found whatever its weights are now: training will change them."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from openrlhf_math.modeling.log_prob_head import logit_transform

SHAPE = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
TOKENS = torch.arange(8, 19)[None]


def model_of(name: str, dtype: torch.dtype, head: float, **settings):
    config = CONFIG_MAPPING[name](**SHAPE, **settings)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager").eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.normal_().mul_(head)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("head", [0.0, 1e-3, 0.3])
@pytest.mark.parametrize(
    ("name", "settings", "scale", "softcap"),
    [
        ("gemma2", {"final_logit_softcapping": 30.0}, 1.0, 30.0),
        ("nanochat", {"final_logit_softcapping": 15.0}, 1.0, 15.0),
        ("granite", {"logits_scaling": 1.02}, 1 / 1.02, None),
        ("cohere", {"logit_scale": 0.0625}, 0.0625, None),
        ("qwen2", {}, 1.0, None),
    ],
)
def test_soft_cap_or_scale_is_found_behind_small_logits(name, settings, scale, softcap, head, dtype):
    model = model_of(name, dtype, head, **settings)
    with torch.no_grad():
        found = logit_transform(model, model.config, TOKENS)
    assert (found.scale, found.softcap) == (pytest.approx(scale, rel=1e-12), softcap)


def test_nan_weights_have_a_separate_error():
    model = model_of("qwen2", torch.float32, float("nan"))
    with torch.no_grad(), pytest.raises(ValueError, match="not finite"):
        logit_transform(model, model.config, TOKENS)
