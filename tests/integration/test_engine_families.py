"""A real vLLM engine for many kinds of model: it answers alike before a transfer and after one of the same weights, and
after one of other weights it answers as an engine does that has loaded these from the disk.

Engines on the CPU repeat themselves to the last bit, so equal means equal. Against Transformers (eager, float32, one
sequence at a time) rounding is the yardstick: what Transformers itself differs by between bfloat16 and float32.
"""

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM
from vllm.distributed.weight_transfer.base import ParamMeta

from openrlhf_math.colocation.layout import engine_arguments, worker_environment
from openrlhf_math.colocation.shared_memory import SharedMemoryTrainerEngine, SharedMemoryTrainerInitInfo
from openrlhf_math.colocation.weight_source import DeepSpeedSource

VOCABULARY, WINDOW, CONTEXT = 160, 16, 256
PROMPTS = (24, 60, 100, 150)  # tokens; most are beyond the window
GENERATED, SHARED = 64, 12  # tokens of a completion, and of the prompt before it
BUCKET_BYTES = 50_000  # several to a model

COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.15,
    "tie_word_embeddings": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
ROUTED = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "n_group": 1, "topk_group": 1,
    "n_shared_experts": 1, "first_k_dense_replace": 1, "topk_method": "noaux_tc",
}  # fmt: skip
# The sizes of DeepSeek's heads: vLLM's kernel for the CPU knows no others.
LATENT = {
    "kv_lora_rank": 512, "q_lora_rank": 32, "qk_nope_head_dim": 32, "qk_rope_head_dim": 64, "v_head_dim": 32,
    "num_key_value_heads": 4,
}  # fmt: skip
TIED = {"tie_word_embeddings": True}
SLIDING = {"sliding_window": WINDOW}


@dataclass
class Family:
    """other: what vLLM computes otherwise than Transformers, so that only transfers are compared."""

    config: str
    settings: dict = field(default_factory=dict)
    other: str = ""

    def model(self) -> torch.nn.Module:
        torch.manual_seed(0)
        config = getattr(transformers, self.config)(**COMMON | self.settings)
        return scattered(AutoModelForCausalLM.from_config(config, dtype=torch.float32), seed=7)


FAST = {
    "Qwen3-MoE": Family("Qwen3MoeConfig", {"head_dim": 32, **EXPERTS}),
    "Mixtral": Family("MixtralConfig", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "Gemma 2: soft-caps, window, tied without a head": Family(
        "Gemma2Config",
        {
            "head_dim": 32, "query_pre_attn_scalar": 32, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0,
            **SLIDING, **TIED,
        },
    ),
}  # fmt: skip
SLOW = {
    "Qwen2": Family("Qwen2Config"),
    "Qwen2, tied": Family("Qwen2Config", TIED),
    "Qwen2, window": Family("Qwen2Config", {"use_sliding_window": True, "max_window_layers": 0, **SLIDING}),
    "Qwen3, tied": Family("Qwen3Config", {"head_dim": 32, **TIED}),
    "Llama": Family("LlamaConfig"),
    "Llama, tied": Family("LlamaConfig", TIED),
    "Mistral, window": Family("MistralConfig", {"head_dim": 32, **SLIDING}),
    "Phi-3, window": Family("Phi3Config", SLIDING),
    "StarCoder2, window": Family("Starcoder2Config", SLIDING),
    "Gemma 3, windows": Family(
        "Gemma3TextConfig", {"head_dim": 32, "query_pre_attn_scalar": 32, "num_hidden_layers": 6, **SLIDING, **TIED}
    ),
    "OLMo2": Family("Olmo2Config"),
    "OLMo3, windows": Family("Olmo3Config", {"num_hidden_layers": 4, **SLIDING}),
    "SmolLM3": Family("SmolLM3Config"),
    "Granite": Family("GraniteConfig", {"logits_scaling": 2.0}),
    "EXAONE 4, windows": Family("Exaone4Config", {"num_hidden_layers": 4, "sliding_window_pattern": 4, **SLIDING}),
    "Cohere2, windows": Family(
        "Cohere2Config", {"logit_scale": 1.0, **SLIDING, **TIED}, other="a window has one token more"
    ),
    "GLM4": Family("Glm4Config", {"head_dim": 32}),
    "Ernie 4.5": Family("Ernie4_5Config", {"head_dim": 32}),
    "Nemotron": Family("NemotronConfig"),
    "StableLM": Family("StableLmConfig"),
    "Phi": Family("PhiConfig", {"num_key_value_heads": 4, "intermediate_size": 512}),
    "GPT-NeoX": Family("GPTNeoXConfig"),
    "Qwen2-MoE": Family("Qwen2MoeConfig", {"shared_expert_intermediate_size": 64, **EXPERTS}),
    "OLMoE": Family("OlmoeConfig", {"num_experts": 4, "num_experts_per_tok": 2}),
    "Qwen3-MoE, padded experts": Family("Qwen3MoeConfig", {"head_dim": 32, **EXPERTS, "moe_intermediate_size": 48}),
    "GLM4-MoE": Family("Glm4MoeConfig", {"head_dim": 32, **ROUTED}),
    "DeepSeek-V2": Family("DeepseekV2Config", {**ROUTED, **LATENT, "topk_method": "greedy"}),
    "DeepSeek-V3": Family("DeepseekV3Config", {**ROUTED, **LATENT, "n_group": 2}, other="the router, for one"),
    "Qwen3-Next": Family(
        "Qwen3NextConfig",
        {
            "head_dim": 32, "num_hidden_layers": 4, "shared_expert_intermediate_size": 64, "linear_num_key_heads": 2,
            "linear_num_value_heads": 2, "linear_key_head_dim": 128, "linear_value_head_dim": 128, **EXPERTS,
        },
    ),
}  # fmt: skip


def scattered(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The model with noise on every parameter, norms and biases included, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.08 if parameter.ndim > 1 else 0.2
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    return model


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in PROMPTS]


def answer_requests(connection) -> None:
    """An engine in a separate process: vLLM changes classes of Transformers that it runs."""
    os.environ |= worker_environment("cpu", 1_000_000)
    import gc

    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest

    def start(path: str) -> None:
        nonlocal engine
        if engine is not None:
            engine.llm_engine.engine_core.shutdown()
        engine = None
        gc.collect()
        cleanup_dist_env_and_memory()
        engine = LLM(
            path, dtype="bfloat16", max_model_len=CONTEXT, seed=0, skip_tokenizer_init=True, enable_prefix_caching=True,
            **engine_arguments("cpu", colocated=True) | {"kv_cache_memory_bytes": 64 << 20},
        )  # fmt: skip

    def ask(sequences: list[list[int]]) -> list[tuple[list[int], list[float]]]:
        """Of each sequence its tokens and the log-probabilities of all but the first, read and then continued."""
        sampling = SamplingParams(max_tokens=1, prompt_logprobs=0, temperature=1.0, detokenize=False)
        read = engine.generate([{"prompt_token_ids": each} for each in sequences], sampling, use_tqdm=False)
        answers = [
            (
                list(each.prompt_token_ids),
                [
                    at[token].logprob
                    for at, token in zip(each.prompt_logprobs, each.prompt_token_ids, strict=True)
                    if at
                ],
            )
            for each in read
        ]
        # Not `min_tokens`: it takes the end of the text out of the distribution.
        sampling = SamplingParams(
            max_tokens=GENERATED, ignore_eos=True, logprobs=0, prompt_logprobs=0, temperature=1.0, seed=5,
            detokenize=False,
        )  # fmt: skip
        begun = [{"prompt_token_ids": each[:SHARED]} for each in sequences]
        for each in engine.generate(begun, sampling, use_tqdm=False):
            tokens = list(each.outputs[0].token_ids)
            before = [
                at[token].logprob for at, token in zip(each.prompt_logprobs, each.prompt_token_ids, strict=True) if at
            ]
            after = [at[token].logprob for at, token in zip(each.outputs[0].logprobs, tokens, strict=True)]
            answers.append((list(each.prompt_token_ids) + tokens, before + after))
        return answers

    def finish() -> None:
        engine.finish_weight_update()
        engine.reset_prefix_cache()

    engine = None
    actions = {
        "start": start,
        "ask": ask,
        "init": lambda info: engine.init_weight_transfer_engine(WeightTransferInitRequest(init_info=info)),
        "begin": lambda: engine.start_weight_update(),
        "update": lambda info: engine.update_weights(WeightTransferUpdateRequest(update_info=info)),
        "finish": finish,
    }
    while True:
        name, *arguments = connection.recv()
        try:
            connection.send((actions[name](*arguments), None))
        except Exception as error:
            connection.send((None, f"{type(error).__name__}: {error}"))


class Engine:
    """The other end, and the client of a weight transfer."""

    def __init__(self, connection) -> None:
        self._connection = connection

    def __call__(self, *request):
        self._connection.send(request)
        answer, error = self._connection.recv()
        if error:
            raise RuntimeError(error)
        return answer

    def init_weight_transfer_engine(self, init_info: dict) -> None:
        self("init", init_info)

    def start_weight_update(self) -> None:
        self("begin")

    def update_weights(self, update_info: dict) -> None:
        self("update", update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self("finish")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=answer_requests, args=(theirs,), daemon=True)
    process.start()
    yield Engine(ours)
    process.kill()
    process.join()


def transfer_to(engine: Engine, source: DeepSpeedSource) -> SharedMemoryTrainerEngine:
    settings = SharedMemoryTrainerInitInfo(rank=0, bucket_bytes=BUCKET_BYTES)
    return SharedMemoryTrainerEngine.trainer_init(settings, client=engine, source=source)


def log_probs(model: torch.nn.Module, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(-1, torch.tensor(tokens[1:])[:, None])[:, 0]


def gap(path, answers) -> tuple[float, float]:
    """Mean difference to Transformers, and that of Transformers' own bfloat16, nats a token."""
    exact, rounded = (
        AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="eager").eval()
        for dtype in (torch.float32, torch.bfloat16)
    )
    expected = torch.cat([log_probs(exact, tokens) for tokens, _ in answers])
    found = torch.cat([torch.tensor(values) for _, values in answers])
    noise = torch.cat([log_probs(rounded, tokens) for tokens, _ in answers])
    assert expected.std() > 0.5, "log-probabilities are too flat to show anything"
    return (found - expected).abs().mean().item(), (noise - expected).abs().mean().item()


def check_family(family: Family, engine: Engine, path) -> None:
    family.model().bfloat16().save_pretrained(path / "old")
    model = AutoModelForCausalLM.from_pretrained(path / "old", dtype=torch.bfloat16)
    engine("start", str(path / "old"))
    loaded = engine("ask", prompts())
    assert engine("ask", prompts()) == loaded

    transfer = transfer_to(engine, DeepSpeedSource(model, zero_stage=2, bucket_bytes=BUCKET_BYTES))
    transfer.send_weights()
    assert engine("ask", prompts()) == loaded

    scattered(model, seed=11).save_pretrained(path / "new")
    transfer.send_weights()
    trained = engine("ask", prompts())
    engine("start", str(path / "new"))
    assert engine("ask", prompts()) == trained

    differs = {name: gap(path / name, answers) for name, answers in (("old", loaded), ("new", trained))}
    print(f"{family.config}: " + "; ".join(f"{name} {d:.4f} rounding {n:.4f}" for name, (d, n) in differs.items()))
    for difference, noise in differs.values():
        assert family.other or difference < 2 * noise
    difference, noise = gap(path / "old", trained)
    assert difference > 10 * noise


@pytest.mark.parametrize("name", FAST)
def test_engine_outputs_follow_training(name, engine, tmp_path):
    check_family(FAST[name], engine, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_engine_outputs_follow_training_of_other_families(name, engine, tmp_path):
    check_family(SLOW[name], engine, tmp_path)


class Changed(DeepSpeedSource):
    """A source without one parameter or with one more."""

    def __init__(self, *args, without: str = "", more: str = "", **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.without, self.more = without, more

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from ((name, tensor) for name, tensor in super().__iter__() if name != self.without)
        if self.more:
            yield self.more, torch.ones(3, dtype=torch.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "change", "named"),
    [
        # vLLM's loader of gpt-oss writes where a reload has nothing yet, and every loader skips such a bias.
        (Family("GptOssConfig", {"num_local_experts": 4, "head_dim": 32}), {}, "layers.0.self_attn.sinks"),
        (Family("Qwen2Config"), {"more": "model.layers.0.self_attn.o_proj.bias"}, "layers.0.self_attn.o_proj.bias"),
        (Family("Qwen2Config"), {"more": "model.layers.0.unheard_of"}, "layers.0.unheard_of"),
        (Family("Qwen2Config"), {"without": "model.norm.weight"}, "model.norm.weight"),
        (Family("Qwen2Config"), {"without": "model.layers.1.self_attn.k_proj.bias"}, "layers.1.self_attn.qkv_proj"),
    ],
)
def test_missing_weights_in_a_transfer_are_refused(family, change, named, engine, tmp_path):
    family.model().bfloat16().save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    engine("start", str(tmp_path))
    with pytest.raises(RuntimeError) as error:
        transfer_to(engine, Changed(model, zero_stage=2, bucket_bytes=BUCKET_BYTES, **change)).send_weights()
    assert named in str(error.value)
