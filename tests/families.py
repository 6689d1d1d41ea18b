"""Tiny models with random weights of the families people train, each from its own Transformers config.

Windows and chunks are shorter than the sequences of `naive_grpo.batch`, soft-caps and scales strong enough to matter,
and every kind of layer is there at least once. A family that a new Transformers drops fails at `CONFIG_MAPPING`.

Left out: encoder-decoders and models without a causal head, which are not policies; Gemma 3n's vision class, which
needs timm (its text class is here); DeepSeek V3.2, DeepSeek V4 and GLM-MoE-DSA, which choose keys by a top-k
that rounding can change.
"""

from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import naive_grpo
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 304
FIRST_WORD = 8  # ids below it are special tokens and placeholders of images
WINDOW = 8
ORIGINAL_LENGTH = 16  # of scaled rotary embeddings: the batch has sequences on both sides of it

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
HEADS = {"head_dim": 8}
MIXED = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
RECURRENT = {"layer_types": ["linear_attention", "full_attention"]}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
ROUTED_EXPERTS = {
    "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "n_group": 1,
    "topk_group": 1, "routed_scaling_factor": 1.5,
}  # fmt: skip
LATENT = {
    "kv_lora_rank": 16, "q_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
    "num_key_value_heads": 4,
}  # fmt: skip
DELTA = HEADS | {
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
}  # fmt: skip
MAMBA = {
    "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16,
}  # fmt: skip
MULTIPLIERS = {
    "embedding_multiplier": 2.0, "residual_multiplier": 0.7, "attention_multiplier": 0.3, "logits_scaling": 0.6,
}  # fmt: skip

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": ORIGINAL_LENGTH,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
    "original_max_position_embeddings": ORIGINAL_LENGTH,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 3.0, 4.0, 5.0], "original_max_position_embeddings": ORIGINAL_LENGTH,
}  # fmt: skip

VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
PIXTRAL = VISION | {"model_type": "pixtral", "image_size": 8, "patch_size": 4, "head_dim": 8}
QWEN_VISION = {
    "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32, "patch_size": 4,
    "num_position_embeddings": 16,
}  # fmt: skip
QWEN_IMAGES = {"image_token_id": 3, "video_token_id": 4, "vision_start_token_id": 5, "vision_end_token_id": 6}
QWEN_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "partial_rotary_factor": 1.0}
GEMMA = HEADS | {"tie_word_embeddings": True}
GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
GEMMA4 = GEMMA | MIXED | {
    "final_logit_softcapping": 3.0, "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 16,
    "global_head_dim": 16,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """model_type: Transformers' name. kinds: of its layers, for a table. settings: what differs from SHAPE.

    text: settings of the language model within a vision model, instead of SHAPE in the config itself.
    """

    model_type: str
    kinds: str
    settings: dict = field(default_factory=dict)
    text: dict | None = None

    def config(self):
        if self.text is None:
            return CONFIG_MAPPING[self.model_type](**SHAPE | self.settings)
        tied = (SHAPE | self.text)["tie_word_embeddings"]
        return CONFIG_MAPPING[self.model_type](
            text_config=SHAPE | self.text, tie_word_embeddings=tied, **{"pad_token_id": 0} | self.settings
        )

    @property
    def auto_class(self):
        return AutoModelForCausalLM if self.text is None else AutoModelForImageTextToText


GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "tie_word_embeddings": True}

FAMILIES = {
    "qwen2": Family("qwen2", "full"),
    "qwen2-tied": Family("qwen2", "full", {"tie_word_embeddings": True}),
    "qwen2-window": Family(
        "qwen2", "full, window", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
    ),
    "qwen2-yarn": Family("qwen2", "full; yarn", {"rope_parameters": YARN}),
    "qwen3": Family("qwen3", "full", HEADS),
    "qwen3-window": Family(
        "qwen3", "full, window", HEADS | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
    ),
    "qwen2-moe": Family("qwen2_moe", "full; experts", EXPERTS | {"shared_expert_intermediate_size": 24}),
    "qwen2-moe-window": Family(
        "qwen2_moe", "full, window; experts",
        EXPERTS
        | {
            "shared_expert_intermediate_size": 24, "use_sliding_window": True, "sliding_window": WINDOW,
            "max_window_layers": 1,
        },
    ),
    "qwen3-moe": Family("qwen3_moe", "full; experts", HEADS | EXPERTS | {"norm_topk_prob": True}),
    "qwen3-moe-window": Family(
        "qwen3_moe", "window; experts", HEADS | EXPERTS | {"use_sliding_window": True, "sliding_window": WINDOW}
    ),
    "qwen3-next": Family(
        "qwen3_next", "delta rule, full; experts",
        DELTA | EXPERTS | RECURRENT | {"shared_expert_intermediate_size": 24},
    ),
    "qwen3.5-text": Family("qwen3_5_text", "delta rule, full", DELTA | RECURRENT),
    "qwen3.5": Family(
        "qwen3_5", "delta rule, full; vision class", QWEN_IMAGES | {"vision_config": QWEN_VISION},
        DELTA | RECURRENT | {"rope_parameters": QWEN_ROPE},
    ),
    "qwen3.5-moe-text": Family(
        "qwen3_5_moe_text", "delta rule, full; experts",
        DELTA | EXPERTS | RECURRENT | {"shared_expert_intermediate_size": 24},
    ),
    "qwen3.5-moe": Family(
        "qwen3_5_moe", "delta rule, full; experts; vision class", QWEN_IMAGES | {"vision_config": QWEN_VISION},
        DELTA | EXPERTS | RECURRENT | {"shared_expert_intermediate_size": 24, "rope_parameters": QWEN_ROPE},
    ),
    "qwen2.5-vl": Family(
        "qwen2_5_vl", "full; vision class",
        QWEN_IMAGES | {"vision_config": QWEN_VISION | {"fullatt_block_indexes": [0]}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}},
    ),
    "qwen3-vl": Family(
        "qwen3_vl", "full; vision class",
        QWEN_IMAGES | {"vision_config": QWEN_VISION | {"deepstack_visual_indexes": [0]}},
        HEADS | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}},
    ),
    "llama3": Family("llama", "full; llama3 rope", {"rope_parameters": LLAMA3}),
    "llama-biases": Family(
        "llama", "full; biases", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}
    ),
    "llama-dynamic": Family(
        "llama", "full; dynamic NTK", {"rope_parameters": DYNAMIC, "max_position_embeddings": ORIGINAL_LENGTH}
    ),
    "llama-dynamic-short": Family(
        "llama", "full; dynamic NTK, not reached", {"rope_parameters": DYNAMIC, "max_position_embeddings": 64}
    ),
    "llama4-text": Family(
        "llama4_text", "chunked, full without rope; experts",
        HEADS | LOCAL_EXPERTS
        | {
            "intermediate_size_mlp": 48, "attention_chunk_size": WINDOW, "interleave_moe_layer_step": 2,
            "no_rope_layers": [1, 0], "layer_types": ["chunked_attention", "full_attention"], "floor_scale": 4,
        },
    ),
    "llama4-text-packed": Family(
        "llama4_text", "chunked, full without rope; experts; floor_scale not reached",
        HEADS | LOCAL_EXPERTS
        | {
            "intermediate_size_mlp": 48, "attention_chunk_size": WINDOW, "interleave_moe_layer_step": 2,
            "no_rope_layers": [1, 0], "layer_types": ["chunked_attention", "full_attention"], "floor_scale": 512,
        },
    ),
    "llama4": Family(
        "llama4", "chunked, full without rope; experts; vision class",
        {"vision_config": VISION | {"image_size": 8, "patch_size": 4, "vision_output_dim": 16,
         "projector_input_dim": 16, "projector_output_dim": 16}, "boi_token_index": 4, "eoi_token_index": 5,
         "image_token_index": 3},
        HEADS | LOCAL_EXPERTS
        | {
            "intermediate_size_mlp": 48, "attention_chunk_size": WINDOW, "interleave_moe_layer_step": 2,
            "no_rope_layers": [1, 0], "layer_types": ["chunked_attention", "full_attention"], "floor_scale": 4,
        },
    ),
    "mistral": Family("mistral", "full", {"sliding_window": None}),
    "mistral-window": Family("mistral", "window", {"sliding_window": WINDOW}),
    "ministral": Family("ministral", "window, full", HEADS | MIXED),
    "ministral3": Family("ministral3", "full; yarn; position-scaled queries", HEADS | {
        "rope_parameters": YARN | {"llama_4_scaling_beta": 0.3},
    }),
    "mistral3": Family(
        "mistral3", "full; vision class", {"vision_config": PIXTRAL, "image_token_index": 3},
        HEADS | {"model_type": "mistral", "sliding_window": None},
    ),
    "mistral4": Family(
        "mistral3", "latent; experts; yarn; position-scaled queries; vision class",
        {"vision_config": PIXTRAL, "image_token_index": 3},
        LATENT | ROUTED_EXPERTS | {
            "model_type": "mistral4", "rope_parameters": YARN | {
                "llama_4_scaling_beta": 0.3, "mscale": 1.0, "mscale_all_dim": 1.0, "max_position_embeddings": 128,
            },
        },
    ),
    "mixtral": Family("mixtral", "full; experts", LOCAL_EXPERTS),
    "mixtral-window": Family("mixtral", "window; experts", LOCAL_EXPERTS | {"sliding_window": WINDOW}),
    "phi": Family("phi", "full; biases", {"rope_parameters": {
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}),
    "phi3": Family("phi3", "full"),
    "phi3-window": Family("phi3", "window", {"sliding_window": WINDOW}),
    "phi3-longrope": Family("phi3", "full; longrope", {
        "rope_parameters": LONGROPE, "original_max_position_embeddings": ORIGINAL_LENGTH}),
    "phi3-longrope-short": Family("phi3", "full; longrope, not reached", {
        "rope_parameters": LONGROPE | {"original_max_position_embeddings": 64},
        "original_max_position_embeddings": 64}),
    "phimoe": Family("phimoe", "full; experts; biases",
                     LOCAL_EXPERTS | {"attention_bias": True, "lm_head_bias": True}),
    "phimoe-window": Family("phimoe", "window; experts", LOCAL_EXPERTS | {"sliding_window": WINDOW}),
    "gemma": Family("gemma", "full", GEMMA),
    "gemma2": Family("gemma2", "window, full; soft-caps", GEMMA | MIXED | {
        "attn_logit_softcapping": 1.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 6}),
    "vaultgemma": Family("vaultgemma", "window, full; soft-caps", GEMMA | MIXED | {
        "attn_logit_softcapping": 1.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 6}),
    "gemma3-text": Family("gemma3_text", "window, full", GEMMA | MIXED | {
        "query_pre_attn_scalar": 6, "rope_parameters": GEMMA_ROPE}),
    "gemma3": Family(
        "gemma3", "window, full; vision class",
        {"vision_config": VISION | {"image_size": 8, "patch_size": 4}, "mm_tokens_per_image": 4,
         "boi_token_index": 4, "eoi_token_index": 5, "image_token_index": 3},
        GEMMA | MIXED | {"query_pre_attn_scalar": 6, "rope_parameters": GEMMA_ROPE},
    ),
    "gemma3n-text": Family("gemma3n_text", "window, full, shared keys; soft-cap", GEMMA | {
        "num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": WINDOW,
        "num_kv_shared_layers": 2, "final_logit_softcapping": 3.0, "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 16, "laurel_rank": 4, "altup_num_inputs": 2,
        "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
    }),
    "gemma4-text": Family("gemma4_text", "window, full; soft-cap", GEMMA4),
    "gemma4-text-shared": Family("gemma4_text", "window, full, shared keys; soft-cap", GEMMA4 | {
        "num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2, "use_double_wide_mlp": True,
    }),
    "gemma4-text-moe": Family("gemma4_text", "window, full; experts; soft-cap", GEMMA4 | {
        "hidden_size_per_layer_input": 0, "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2,
        "moe_intermediate_size": 24, "attention_k_eq_v": True, "num_global_key_value_heads": 1,
    }),
    "gemma4": Family(
        "gemma4", "window, full; soft-cap; vision class",
        {"vision_config": VISION | {"num_key_value_heads": 2, "head_dim": 8, "patch_size": 4,
         "position_embedding_size": 16}, "audio_config": None, "image_token_id": 3, "video_token_id": 4,
         "boi_token_id": 5, "eoi_token_id": 6, "audio_token_id": 7},
        GEMMA4,
    ),
    "olmo": Family("olmo", "full", {"clip_qkv": 1.5}),
    "olmo2": Family("olmo2", "full"),
    "olmo3": Family("olmo3", "window, full", MIXED),
    "olmoe": Family("olmoe", "full; experts", EXPERTS),
    "flex-olmo": Family("flex_olmo", "full; experts", EXPERTS),
    "olmo-hybrid": Family("olmo_hybrid", "delta rule, full", RECURRENT | {
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 4, "linear_num_value_heads": 4}),
    "exaone4": Family("exaone4", "window, full without rope", MIXED | {"sliding_window_pattern": 2}),
    "exaone-moe": Family("exaone_moe", "window, full; experts", MIXED | EXPERTS | {
        "sliding_window_pattern": 2, "num_shared_experts": 1, "first_k_dense_replace": 1}),
    "starcoder2": Family("starcoder2", "window; biases", {
        "sliding_window": WINDOW, "tie_word_embeddings": True,
        "residual_dropout": 0.1, "embedding_dropout": 0.1}),
    "smollm3": Family("smollm3", "full, full without rope", {"no_rope_layers": [1, 0]}),
    "glm": Family("glm", "full; biases", HEADS),
    "glm4": Family("glm4", "full; biases", HEADS),
    "glm4-moe": Family("glm4_moe", "full; experts", HEADS | ROUTED_EXPERTS | {"use_qk_norm": True}),
    "glm4-moe-lite": Family("glm4_moe_lite", "latent; experts", LATENT | ROUTED_EXPERTS),
    "hunyuan-dense": Family("hunyuan_v1_dense", "full", HEADS),
    "hunyuan-moe": Family("hunyuan_v1_moe", "full; experts", HEADS | {"num_experts": 4, "moe_topk": 2}),
    "hunyuan-v3": Family("hy_v3", "full; experts", HEADS | EXPERTS | {"num_shared_experts": 1}),
    "ernie4.5": Family("ernie4_5", "full", HEADS | {"tie_word_embeddings": True, "use_bias": True}),
    "ernie4.5-moe": Family("ernie4_5_moe", "full; experts", {
        "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24, "moe_num_shared_experts": 1,
        "tie_word_embeddings": True}),
    "gpt2": Family("gpt2", "full, learned positions; dropout", GPT2),
    "gpt-bigcode": Family("gpt_bigcode", "full, learned positions; dropout", GPT2),
    "gpt-neo": Family("gpt_neo", "full, window, learned positions", {
        "num_layers": 2, "num_heads": 4, "window_size": WINDOW, "attention_types": [[["global", "local"], 1]],
        "tie_word_embeddings": True}),
    "gptj": Family("gptj", "full; biases", {
        "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "rotary_dim": 4}),
    "gpt-neox": Family("gpt_neox", "full; biases", {"rope_parameters": {
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}}),
    "opt": Family("opt", "full, learned positions; dropout", {
        "ffn_dim": 48, "word_embed_proj_dim": 32, "tie_word_embeddings": True}),
    "bloom": Family("bloom", "full, ALiBi", {"n_layer": 2, "n_head": 4, "tie_word_embeddings": True}),
    "falcon": Family("falcon", "full", {"tie_word_embeddings": True}),
    "apertus": Family("apertus", "full"),
    "arcee": Family("arcee", "full"),
    "afmoe": Family("afmoe", "window, full without rope; experts", HEADS | MIXED | EXPERTS | {
        "num_shared_experts": 1, "num_dense_layers": 1, "mup_enabled": True, "route_scale": 1.5}),
    "granite": Family("granite", "full; logit scale", MULTIPLIERS),
    "granite-swa": Family("granite_swa", "window, full; sinks; logit scale", MULTIPLIERS | MIXED),
    "granite-moe": Family("granitemoe", "full; experts; logit scale", MULTIPLIERS | LOCAL_EXPERTS),
    "granite-moe-swa": Family(
        "granitemoe_swa", "window, full; sinks; experts; logit scale", MULTIPLIERS | LOCAL_EXPERTS | MIXED
    ),
    "granite-moe-shared": Family(
        "granitemoeshared", "full; experts; logit scale",
        MULTIPLIERS | LOCAL_EXPERTS | {"shared_intermediate_size": 24},
    ),
    "granite-4-h": Family(
        "granitemoehybrid", "Mamba 2, full; experts; logit scale",
        MULTIPLIERS | LOCAL_EXPERTS | MAMBA | RECURRENT
        | {"shared_intermediate_size": 24, "tie_word_embeddings": True},
    ),
    "cohere": Family("cohere", "full; logit scale",
                     {"logit_scale": 0.5, "tie_word_embeddings": True, "use_qk_norm": True}),
    "cohere2": Family("cohere2", "window, full without rope; logit scale",
                      MIXED | {"logit_scale": 0.5, "tie_word_embeddings": True}),
    "cohere2-moe": Family("cohere2_moe", "window, full; experts; logit scale", HEADS | MIXED | {
        "logit_scale": 0.5, "tie_word_embeddings": True, "num_experts": 4, "num_shared_experts": 1}),
    "deepseek-v2": Family("deepseek_v2", "latent; experts",
                          LATENT | ROUTED_EXPERTS | {"first_k_dense_replace": 1, "head_dim": 4}),
    "deepseek-v3": Family("deepseek_v3", "latent; experts; yarn", LATENT | ROUTED_EXPERTS | {
        "first_k_dense_replace": 1, "rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}}),
    "dots1": Family("dots1", "window, full; experts", MIXED | ROUTED_EXPERTS),
    "gpt-oss": Family("gpt_oss", "window, full; sinks; experts", HEADS | MIXED | LOCAL_EXPERTS | {
        "rope_parameters": YARN}),
    "minimax": Family("minimax", "lightning, full; experts",
                      LOCAL_EXPERTS | RECURRENT | HEADS | {"block_size": 16}),
    "minimax-m2": Family("minimax_m2", "full; experts", LOCAL_EXPERTS | HEADS),
    "mimo-v2-flash": Family("mimo_v2_flash", "window, full; sinks; experts", MIXED | ROUTED_EXPERTS | {
        "head_dim": 12, "v_head_dim": 8}),
    "lfm2": Family("lfm2", "short convolution, full", {
        "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False, "tie_word_embeddings": True}),
    "lfm2-moe": Family("lfm2_moe", "short convolution, full; experts", EXPERTS | {
        "layer_types": ["conv", "full_attention"], "num_dense_layers": 1, "tie_word_embeddings": True}),
    "falcon-h1": Family("falcon_h1", "Mamba 2 with full; logit scale", MAMBA | HEADS | {
        "mamba_d_ssm": 64, "lm_head_multiplier": 0.6, "key_multiplier": 0.7, "mlp_multipliers": [0.8, 0.9],
        "ssm_multipliers": [0.9, 0.8, 0.7, 1.1, 1.2]}),
    "bamba": Family("bamba", "Mamba 2, full", MAMBA | {"attn_layer_indices": [1]}),
    "mamba2": Family("mamba2", "Mamba 2", {
        "num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 16}),
    "mamba": Family("mamba", "Mamba", {"state_size": 4, "tie_word_embeddings": True}),
    "recurrent-gemma": Family("recurrent_gemma", "recurrent, window; soft-cap", {
        "num_hidden_layers": 3, "attention_window_size": WINDOW, "logits_soft_cap": 3.0, "lru_width": 32,
        "tie_word_embeddings": True}),
    "nemotron": Family("nemotron", "full", HEADS),
    "nemotron-h": Family("nemotron_h", "Mamba 2, full, experts", HEADS | ROUTED_EXPERTS | {
        "num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention", "mlp", "moe"],
        "mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8, "n_groups": 1, "chunk_size": 16,
        "moe_shared_expert_intermediate_size": 24}),
    "stablelm": Family("stablelm", "full; biases", {"use_qkv_bias": True, "rope_parameters": {
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}),
    "seed-oss": Family("seed_oss", "full; biases; dropout", HEADS | {
        "attention_dropout": 0.1, "residual_dropout": 0.1}),
    "hyperclovax": Family("hyperclovax", "full; logit scale", MULTIPLIERS),
    "minicpm3": Family("minicpm3", "latent", LATENT | {
        "tie_word_embeddings": True, "scale_emb": 2, "dim_model_base": 16, "head_dim": 12}),
    "nanochat": Family("nanochat", "full; soft-cap", {"final_logit_softcapping": 3.0}),
    "helium": Family("helium", "full", HEADS),
    "diffllama": Family("diffllama", "full, differential", HEADS),
    "jetmoe": Family("jetmoe", "full, experts of attention; experts", LOCAL_EXPERTS | {
        "kv_channels": 8, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "solar-open": Family("solar_open", "full; experts", HEADS | ROUTED_EXPERTS),
    "cwm": Family("cwm", "window, full", HEADS | MIXED | {"rope_parameters": LLAMA3}),
    "youtu": Family("youtu", "latent", LATENT),
    "longcat-flash": Family("longcat_flash", "latent; experts, some of which do nothing", LATENT | {
        "num_layers": 2, "ffn_hidden_size": 48, "expert_ffn_hidden_size": 24, "n_routed_experts": 4, "moe_topk": 2,
        "zero_expert_num": 1, "head_dim": 4}),
    "laguna": Family("laguna", "window, full; experts", HEADS | MIXED | EXPERTS | {
        "shared_expert_intermediate_size": 24}),
    "persimmon": Family("persimmon", "full; biases"),
    "mpt": Family("mpt", "full, ALiBi", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 128,
                                         "tie_word_embeddings": True}),
    "doge": Family("doge", "full, learned mask", {"keep_window_size": 128}),
    "jamba": Family("jamba", "Mamba, full; experts", {
        "num_experts": 4, "num_experts_per_tok": 2, "attn_layer_period": 2, "attn_layer_offset": 1,
        "mamba_d_state": 4, "mamba_dt_rank": 4}),
    "zamba2": Family("zamba2", "Mamba 2, shared full", {
        "layers_block_type": ["mamba", "hybrid"], "mamba_d_state": 8, "n_mamba_heads": 4, "mamba_ngroups": 1,
        "chunk_size": 16, "adapter_rank": 4, "use_mem_rope": True, "tie_word_embeddings": True,
        "num_key_value_heads": 4}),
    "glm4v": Family("glm4v", "full; vision class", QWEN_IMAGES | {
        "vision_config": {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
                          "out_hidden_size": 32, "patch_size": 4, "image_size": 8},
        "image_start_token_id": 5, "image_end_token_id": 6, "video_start_token_id": 5, "video_end_token_id": 6,
    }, {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}}),
    "mellum": Family("mellum", "window, full; experts", HEADS | MIXED | EXPERTS),
}  # fmt: skip


def build(name: str, directory: Path, seed: int = 0) -> Path:
    """Save a family's tiny model as its own `save_pretrained` does, and return the directory.

    Weights are of a size at which attention, routing and soft-caps matter, rounded to bfloat16 so that a model loaded
    in either dtype has the same.
    """
    family = FAMILIES[name]
    torch.manual_seed(seed)
    model = family.auto_class.from_config(family.config(), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(0.3 * torch.randn_like(parameter))
            parameter.copy_(parameter.bfloat16())
        for buffer_name, buffer in model.named_buffers():
            if "bias" in buffer_name.rsplit(".")[-1] and buffer.is_floating_point():  # of a router
                buffer.copy_(0.1 * torch.randn_like(buffer).bfloat16())
    model.save_pretrained(directory)
    return directory


def load(name: str, directory: Path, dtype: torch.dtype = torch.float32):
    """A family's model with its own eager attention, without dropout."""
    model = FAMILIES[name].auto_class.from_pretrained(directory, dtype=dtype, attn_implementation="eager")
    return model.eval()


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def actor(directory: Path, dtype: str = "fp32", checkpointing: bool = False):
    """The product's actor, ready to train. OpenRLHF names no float32; the product's own loading is what is tested."""
    from openrlhf_math.modeling.packed_actor import PackedActor

    with mock.patch("openrlhf.utils.utils.convert_to_torch_dtype", DTYPES.get):
        made = PackedActor(
            str(directory), attn_implementation="shared_prefix", param_dtype=dtype, temperature=naive_grpo.TEMPERATURE
        )
    if checkpointing:
        made.gradient_checkpointing_enable()
    return made.train()


def trained(policy, data: naive_grpo.Batch, entropy_weight: float = 0.0) -> naive_grpo.Outcome:
    """What the actor computes of a padded batch, and the gradient of the naive loss through it."""
    log_probs, output = policy(
        data.sequences, data.action_mask, data.attention_mask, return_output=True, return_entropy=True
    )
    policy.zero_grad()
    entropies = output.entropy * data.action_mask
    naive_grpo.loss(log_probs, entropies, data.action_mask, entropy_weight).backward()
    gradients = naive_grpo.gradients(policy.model)
    return naive_grpo.Outcome(log_probs.detach().float(), entropies.detach().float(), gradients)
