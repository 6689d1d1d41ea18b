"""The path of a training: chosen by a probe on the weights, refused where none is right, and checked before Ray."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2 import modeling_qwen2

sys.path.append(str(Path(__file__).parents[1]))

import families
from wrong_attention import leaky

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world.world import build_tokenizer
from openrlhf_math.errors import UserError
from openrlhf_math.modeling import SHARED_PREFIX, attention, packed_actor, packing, shared_prefix_attention
from openrlhf_math.modeling.log_prob_head import LogitTransform
from openrlhf_math.modeling.packed_actor import PADDED, ROWS, SHARED, PackedActor
from openrlhf_math.modeling.probe import Reference, WrongPath
from openrlhf_math.training.flag_checks import check_installed

SHAPE = {
    "vocab_size": 1000,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}


def qwen2(dtype=torch.float32, **settings) -> Qwen2ForCausalLM:
    """Random weights at which attention matters."""
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE | settings)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("asked", "path"), [(SHARED_PREFIX, SHARED), ("sdpa", PADDED), ("eager", PADDED)])
def test_correct_path_is_used_without_a_message(dtype, asked, path):
    actor = PackedActor(qwen2(dtype), asked)
    actor.packing_samples = False
    assert actor.choose_path() is None
    assert actor.path == path


def without_prompt(query, key, value, layout, seen, scores):
    """Attention in which a completion does not see its prompt."""
    alone = [type(piece)(piece.start, piece.length) for piece in layout.pieces]
    return attention.attend(query, key, value, type(layout)(tuple(alone), layout.device), seen, scores)


def scaled(query, key, value, layout, seen, scores):
    """Attention with scores a tenth too small."""
    return attention.attend(query, key, value, layout, seen, type(scores)(0.9 * scores.scaling))


def crashing(*inputs):
    raise IndexError("no such piece")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("broken", [leaky, without_prompt, scaled, crashing])
def test_wrong_attention_falls_back_to_rows(monkeypatch, broken, dtype):
    monkeypatch.setattr(shared_prefix_attention, "attend", broken)
    actor = PackedActor(qwen2(dtype), SHARED_PREFIX)
    note = actor.choose_path()
    assert actor.path == ROWS
    assert note.startswith("Qwen2ForCausalLM: each sequence has its own row")


def counted_by_place(*batch):
    """A row whose positions count on from one completion to the next."""
    packed = packing.pack(*batch)
    return replace(packed, positions=torch.arange(packed.positions.shape[1])[None])


def one_too_large(*batch):
    """A row in which positions are 1 too large, from the second completion of a prompt on."""
    packed, prompts = packing.pack(*batch), set()
    positions = packed.positions.clone()
    for piece in packed.layout.pieces:
        if piece.prompt_length and piece.prompt_start in prompts:
            positions[:, piece.start : piece.start + piece.length] += 1
        prompts |= {piece.prompt_start} if piece.prompt_length else set()
    return replace(packed, positions=positions)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("broken", [counted_by_place, one_too_large])
def test_wrong_positions_are_detected(monkeypatch, broken, dtype):
    monkeypatch.setattr(packed_actor, "pack", broken)
    actor = PackedActor(qwen2(dtype), SHARED_PREFIX)
    assert actor.choose_path() is not None
    assert actor.path == ROWS


@pytest.mark.parametrize(("experts", "times"), [(False, 2.5), (True, 4.0)])
def test_mixture_of_experts_has_a_larger_tolerance(experts, times):
    model = nn.ModuleDict({"experts" if experts else "mlp": nn.Linear(2, 2)})
    assert Reference.of(model, lambda: torch.zeros(5), torch.bfloat16).times == times


def test_first_pass_chooses_the_path_by_default(monkeypatch):
    monkeypatch.setattr(shared_prefix_attention, "attend", leaky)
    actor = PackedActor(qwen2(), SHARED_PREFIX).train()
    sequences = torch.randint(10, 100, (2, 9))
    actions = torch.ones(2, 8, dtype=torch.bool)
    actor(sequences, actions, torch.ones_like(sequences)).sum().backward()
    assert actor.path == ROWS
    assert all(parameter.grad is not None for parameter in actor.model.parameters())


def test_model_without_a_correct_path_is_refused(monkeypatch):
    monkeypatch.setattr(shared_prefix_attention, "attend", leaky)
    monkeypatch.setattr(PackedActor, "_as_rows", lambda self, sequences, actions, *rest: (actions * 0.0,) * 2 + (0,))
    with pytest.raises(WrongPath) as refusal:
        PackedActor(qwen2(), SHARED_PREFIX).choose_path()
    assert isinstance(refusal.value, UserError)
    assert "Qwen2ForCausalLM" in str(refusal.value)


def test_padded_path_with_wrong_attention_uses_the_models_attention(monkeypatch):
    """As PyTorch's fused attention is for a model with a soft-cap."""
    from transformers import AttentionInterface

    def halved(*inputs, scaling, **kwargs):
        return modeling_qwen2.eager_attention_forward(*inputs, scaling=scaling / 2, **kwargs)

    AttentionInterface.register("halved", halved)
    model = qwen2()
    model.set_attn_implementation("halved")
    actor = PackedActor(model, "halved")
    actor.packing_samples = False
    assert actor.choose_path() is not None
    assert (actor.path, actor.rows_attention) == (PADDED, "eager")


def test_missing_auxiliary_loss_is_refused():
    actor = PackedActor(qwen2(), SHARED_PREFIX)
    actor.balance_routers(True)
    with pytest.raises(WrongPath, match="Qwen2ForCausalLM has no auxiliary loss"):
        actor.choose_path()


def test_model_with_failing_code_is_refused(monkeypatch):
    monkeypatch.setattr(modeling_qwen2.Qwen2MLP, "forward", crashing)
    with pytest.raises(WrongPath, match="IndexError: no such piece"):
        PackedActor(qwen2(), SHARED_PREFIX).choose_path()


def test_tolerance_covers_only_rounding():
    model = qwen2(torch.bfloat16)
    tokens = torch.arange(20, 60)[None]

    def own():
        return model(tokens).logits[0].float().log_softmax(-1)[:, 7]

    with torch.no_grad():
        reference = Reference.of(model, own, torch.bfloat16)
        exact = model.float()(tokens).logits[0].log_softmax(-1)[:, 7]
    assert reference.judge(exact).right  # the same weights without rounding
    assert not reference.judge(exact + 0.3).right
    assert not reference.judge(exact * torch.nan).right


@pytest.mark.parametrize(
    ("transform", "config"),
    [
        (LogitTransform(), {"logits_scaling": 0.25}),  # as MiniCPM3, which applies it before its head
        (LogitTransform(4.0), {"logits_scaling": 0.25}),  # as Granite
        (LogitTransform(0.25), {"logits_scaling": 0.25}),  # as HyperCLOVA X
        (LogitTransform(1.0, 3.0), {"cap": 3.0, "other": 2}),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_logit_transform_is_detected(transform, config, dtype):
    torch.manual_seed(0)
    before = (3 * torch.randn(1, 5, 40)).to(dtype)
    after = transform.scale * before
    if transform.softcap:
        after = transform.softcap * torch.tanh(after / transform.softcap)
    assert LogitTransform.between(before, after.to(dtype), LlamaConfig(**config)) == transform


def test_unknown_transform_is_refused():
    before = torch.randn(1, 5, 40)
    with pytest.raises(ValueError):
        LogitTransform.between(before, before + 1, LlamaConfig())


class OddHead(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits.sin()
        return output


def test_model_with_an_unknown_transform_is_refused():
    with pytest.raises(WrongPath):
        PackedActor(OddHead(LlamaConfig(**SHAPE)), SHARED_PREFIX).choose_path()


def test_probe_leaves_no_hooks_or_gradients_and_restores_the_mode(monkeypatch):
    actor = PackedActor(qwen2(attention_dropout=0.5), SHARED_PREFIX).train()
    training = [module.training for module in actor.modules()]
    actor.choose_path()
    assert [module.training for module in actor.modules()] == training
    assert not any(module._forward_hooks for module in actor.modules())
    assert all(parameter.grad is None for parameter in actor.parameters())


def test_custom_head_layer_gives_the_same_result(monkeypatch):
    """As one with an adapter."""

    class Wrapped(nn.Linear):
        def forward(self, hidden):
            return super().forward(hidden) * 1.0

    model = qwen2(tie_word_embeddings=False)
    sequences, actions = torch.randint(10, 100, (3, 9)), torch.ones(3, 8, dtype=torch.bool)
    found = []
    for head in (None, Wrapped(48, 200, bias=False)):
        if head is not None:
            head.weight = model.lm_head.weight
            model.lm_head = head
        actor = PackedActor(model, SHARED_PREFIX, temperature=0.7)
        log_probs = actor(sequences, actions, torch.ones_like(sequences))
        log_probs.square().sum().backward()
        found.append(
            (
                log_probs.detach(),
                model.lm_head.weight.grad.clone(),
                model.model.layers[0].mlp.up_proj.weight.grad.clone(),
            )
        )
        model.zero_grad()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


SMALL = {"vocab_size": 1000, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6}
RECURRENT = {"model_type": "qwen3_next", "architectures": ["Qwen3NextForCausalLM"], **SMALL,
             "layer_types": ["linear_attention", "full_attention"]}  # fmt: skip
WINDOWED = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], **SMALL, "sliding_window": 64}
ALIBI = {"model_type": "bloom", "architectures": ["BloomForCausalLM"], **SMALL}
UNUSED = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **SMALL, "sliding_window": 64}
NO_LAYER = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], **SMALL, "use_sliding_window": True,
            "sliding_window": 64, "layer_types": ["full_attention"] * 2}  # fmt: skip


GAE = ("--algo.advantage.estimator", "gae")


@pytest.fixture
def dry_run(tmp_path, capsys):
    """The exit code and the output of `grpo --dry-run` with a model of this config.json."""

    def run(config: dict, *flags: str) -> tuple[int, str, str]:
        (tmp_path / "config.json").write_text(json.dumps(config))
        build_tokenizer(["1+1"]).save_pretrained(tmp_path)
        problems = tmp_path / "problems.jsonl"
        problems.write_text(16 * '{"problem": "1+1", "answer": "2"}\n')
        code = main(
            ["grpo", "--actor.model_name_or_path", str(tmp_path), "--data.prompt_dataset", str(problems),
             "--math.run_dir", str(tmp_path / "run"), "--math.device", "cpu", "--dry-run", *flags]
        )  # fmt: skip
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("config", "flags", "named"),
    [
        (RECURRENT, ("--math.shared_prefix", "on"), ("--math.shared_prefix on", "qwen3_next", "linear_attention")),
        (RECURRENT, ("--ds.ring_attn_size", "2", "--actor.num_gpus_per_node", "2"), ("--ds.ring_attn_size 2",)),
        (WINDOWED, ("--ds.ring_attn_size", "2", "--actor.num_gpus_per_node", "2"), ("--ds.ring_attn_size 2", "window")),
        (ALIBI, ("--math.shared_prefix", "on"), ("--math.shared_prefix on", "bloom", "AttentionInterface")),
        (UNUSED, (), ("sliding_window", "64", "llama")),
        (WINDOWED | {"sliding_window": -4}, (), ("sliding_window", "-4")),
        (NO_LAYER, (), ("sliding_window", "64", "qwen2")),
        (WINDOWED, ("--math.shared_prefix", "on", "--reward.model_name_or_path", "x/y"), ("--math.shared_prefix on",)),
        (WINDOWED, ("--math.shared_prefix", "on", *GAE), ("--math.shared_prefix on", "gae")),
        (WINDOWED, ("--math.shared_prefix", "off", "--ds.attn_implementation", "flex_attention"), ("flex_attention",)),
        (WINDOWED, ("--math.shared_prefix", "off", "--ds.attn_implementation", SHARED_PREFIX), (SHARED_PREFIX,)),
        (WINDOWED, ("--ds.use_liger_kernel",), ("--ds.use_liger_kernel", "CPU")),
        (WINDOWED, ("--ds.param_dtype", "fp16"), ("--ds.param_dtype fp16", "CPU")),
        (WINDOWED, ("--ds.tensor_parallel_size", "2"), ("--ds.tensor_parallel_size 2",)),
        (WINDOWED, ("--vllm.num_engines", "2"), ("--vllm.num_engines 2",)),
        (WINDOWED, ("--algo.kl.init_coef", "0.1", "--ref.num_gpus_per_node", "2"), ("--ref.num_gpus_per_node",)),
        (WINDOWED, ("--critic.num_gpus_per_node", "2", *GAE), ("--critic.num_gpus_per_node",)),
        (WINDOWED, ("--critic.model_name_or_path", "x/y"), ("--critic.model_name_or_path x/y", "gae")),
        (WINDOWED, ("--critic.freezing_steps", "0"), ("--critic.freezing_steps 0", "gae")),
        (WINDOWED, ("--critic.freezing_steps", "0", *GAE), ("--critic.freezing_steps 0",)),
        (WINDOWED, ("--critic.model_name_or_path", "./nothing", *GAE), ("--critic.model_name_or_path ./nothing",)),
        (WINDOWED, ("--data.max_len", "200000"), ("--data.max_len 200000", "max_position_embeddings")),
        (WINDOWED | {"quantization_config": {"quant_method": "fp8"}}, (), ("fp8", "quantised")),
    ],
)
def test_unsupported_models_are_refused_before_ray(dry_run, config, flags, named):
    code, _, error = dry_run(config, *flags)
    assert code == 2
    assert error.count("\n") == 1
    for word in named:
        assert word in error


@pytest.mark.parametrize(
    ("config", "flags", "words"),
    [
        (WINDOWED, (), ("behind one copy of their prompt",)),
        (WINDOWED, ("--ds.attn_implementation", "flash_attention_2"), ("behind one copy of their prompt",)),
        (WINDOWED, ("--ds.use_liger_kernel", "--math.device", "cuda"), ("behind one copy of their prompt",)),
        (WINDOWED, ("--actor.aux_loss_coef", "0.01"), ("behind one copy of their prompt",)),
        (RECURRENT, (), ("a row for each sequence", "linear_attention")),
        (ALIBI, (), ("a row for each sequence", "AttentionInterface")),
        (WINDOWED, ("--reward.model_name_or_path", "x/y"), ("padded batches", "--reward.model_name_or_path", "logits")),
        (WINDOWED, GAE, ("padded batches", "--algo.advantage.estimator gae", "logits")),
        (WINDOWED, ("--math.shared_prefix", "off"), ("padded batches", "--math.shared_prefix off")),
    ],
)
def test_dry_run_reports_the_batch_layout(dry_run, config, flags, words):
    code, output, said = dry_run(config, *flags)
    assert said.count("\n") == ("--ds.attn_implementation" in flags)  # it has no effect, which is said
    line = " ".join(" ".join(output.partition("\ntraining: ")[2].split("curriculum:")[0].split()).split())
    assert code == 0
    for word in words:
        assert word in line


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("flags", [(), ("--ds.attn_implementation", "eager"), ("--ds.packing_samples",)])
def test_rows_are_packed_on_every_device_with_every_attention(device, flags):
    from trained_batch import settings

    args = settings("--math.device", device, *flags)
    assert args.math.shared_prefix
    assert args.ds.attn_implementation == SHARED_PREFIX
    assert not args.ds.packing_samples
    assert args.train.dynamic_batch_enable


@pytest.mark.parametrize("coefficient", [0.0, 0.5])
def test_router_loss_matches_a_padded_batch(tmp_path, coefficient):
    """Transformers' own, of the sequences without their last token: a prompt counts once for each completion."""
    from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

    families.build("qwen3-moe", tmp_path)
    data = families.naive_grpo.batch(families.FIRST_WORD, families.VOCABULARY)
    actor = families.actor(tmp_path)
    actor.balance_routers(coefficient > 0)
    _, output = actor(data.sequences, data.action_mask, data.attention_mask, return_output=True)
    if not coefficient:
        assert output.aux_loss == 0
        return
    model = families.load("qwen3-moe", tmp_path)
    logits: list[list[torch.Tensor]] = []
    for sequence, mask in zip(data.sequences, data.attention_mask, strict=True):
        inputs = sequence[None, : int(mask.sum()) - 1]
        logits.append(model(inputs, output_router_logits=True).router_logits)
    layers = tuple(torch.cat(each) for each in zip(*logits, strict=True))
    config = model.config
    expected = load_balancing_loss_func(layers, config.num_experts, config.num_experts_per_tok)
    torch.testing.assert_close(output.aux_loss, expected, atol=1e-5, rtol=1e-5)


def planned(packing=False, ring=1, dynamic=False, liger=False, attention="sdpa") -> SimpleNamespace:
    return SimpleNamespace(
        ds=SimpleNamespace(
            packing_samples=packing, ring_attn_size=ring, use_liger_kernel=liger, attn_implementation=attention
        ),
        train=SimpleNamespace(dynamic_batch_enable=dynamic),
    )


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (planned(ring=2, packing=True), ("--ds.ring_attn_size 2", " flash-attn", "ring-flash-attn")),
        (planned(packing=True), ("--ds.packing_samples", " flash-attn")),
        (planned(packing=True, dynamic=True), ("--train.dynamic_batch_enable", " flash-attn")),
        (planned(attention="flash_attention_2"), ("--ds.attn_implementation flash_attention_2", " flash-attn")),
        (planned(liger=True), ("--ds.use_liger_kernel", "liger-kernel")),
    ],
)
def test_missing_package_is_refused(monkeypatch, args, named):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError) as refusal:
        check_installed(args)
    for word in named:
        assert word in str(refusal.value)
    assert ("ring-flash-attn" in str(refusal.value)) == (args.ds.ring_attn_size > 1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    check_installed(args)


def test_packed_rows_need_no_flash_attn(monkeypatch):
    from trained_batch import settings

    args = settings("--math.device", "cuda", "--ds.packing_samples")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_installed(args)
    check_installed(planned())


@pytest.mark.parametrize("config", [RECURRENT, WINDOWED], ids=lambda config: config["model_type"])
def test_sft_refuses_incorrect_ring_attention(tmp_path, config, capsys):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    code = main(
        ["sft", "--model.model_name_or_path", str(tmp_path), "--data.dataset", "rows.jsonl", "--math.device", "cuda",
         "--math.run_dir", str(tmp_path / "run"), "--ds.ring_attn_size", "2", "--ds.packing_samples",
         "--train.micro_batch_size", "1", "--dry-run"]
    )  # fmt: skip
    assert code == 2
    assert "--ds.ring_attn_size 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "words"),
    [(WINDOWED, "packed into one without padding"), (RECURRENT, "a row for each sequence")],
    ids=["windowed", "recurrent"],
)
def test_sft_dry_run_reports_the_batch_layout(tmp_path, config, words, capsys):
    from public_tokenizers import chatml

    chatml().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 400}))
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"problem": "1+1?", "response": "2"}) + "\n")
    code = main(
        ["sft", "--model.model_name_or_path", str(tmp_path), "--data.dataset", str(rows), "--math.device", "cpu",
         "--math.run_dir", str(tmp_path / "run"), "--dry-run",
         "--train.batch_size", "1", "--train.micro_batch_size", "1"]
    )  # fmt: skip
    assert code == 0
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("path", [SHARED, ROWS])
@pytest.mark.parametrize(
    ("lengths", "of_another", "passes"),
    [((9, 9), 0, 1), ((60, *[9] * packing.FEWEST_OF_A_PART), 0, 1), ((9, 9), 1, 1), ((9, 9), 2, 2)],
    ids=["alike", "of different lengths", "another has rows", "another has them apart"],
)
def test_sharded_processes_take_equally_many_forward_passes(monkeypatch, path, lengths, of_another, passes):
    """Every pass gathers weights from all processes under ZeRO-3, and would wait for one that takes fewer."""
    actor = PackedActor(qwen2(), SHARED_PREFIX)
    actor.choose_path()
    actor.path = path
    attention = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        attention[row, :length] = 1
    sequences = torch.randint(10, 100, attention.shape) * attention
    actions = attention[:, 1:].bool()
    expected = actor(sequences, actions, attention)
    next(actor.model.parameters()).ds_id = 0

    def highest(own, operation):
        assert operation == torch.distributed.ReduceOp.MAX
        own.clamp_(min=of_another)

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", highest)
    taken = []
    actor.model.register_forward_pre_hook(lambda *_: taken.append(1))
    found = actor(sequences, actions, attention)
    assert len(taken) == passes
    assert (found - expected).masked_fill(~actions, 0).abs().max() < 1e-5
