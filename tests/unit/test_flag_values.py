"""A number that cannot work is one sentence that names its flag, exit code 2, before anything heavy is imported."""

import re
import resource
import subprocess
import sys

import pytest

from openrlhf_math.cli import main
from openrlhf_math.grpo.flags import build_parser

GRPO = ["grpo", "--actor.model_name_or_path", "some/model-1.5B", "--data.prompt_dataset", "some/data", "--dry-run"]
SFT = ["sft", "--model.model_name_or_path", "some/model-1.5B", "--data.dataset", "some/data", "--dry-run"]

BAD = """
rollout.temperature 0
rollout.temperature -1
rollout.temperature nan
rollout.temperature inf
rollout.top_p 0
rollout.top_p 0.9
rollout.top_p 1.1
rollout.top_p -0.5
rollout.top_p nan
rollout.n_samples_per_prompt 0
rollout.n_samples_per_prompt -8
rollout.n_samples_per_prompt 1
rollout.batch_size 0
rollout.batch_size -16
rollout.micro_batch_size 0
rollout.vllm_generate_batch_size -1
rollout.max_new_tokens 0
rollout.max_new_tokens -5
rollout.max_tokens_per_gpu 0
eval.temperature -0.1
eval.temperature nan
eval.n_samples_per_prompt 0
eval.steps 0
eval.steps -2
train.batch_size 0
train.batch_size -128
train.micro_batch_size 0
train.max_epochs 0
train.num_episodes 0
train.max_tokens_per_gpu 0
train.seed -1
train.seed 4294967296
train.ema_beta 1
train.async_queue_size 0
data.max_len 0
data.max_len -1
data.max_samples 0
data.max_images_per_prompt 1
data.dataloader_num_workers -1
actor.adam.lr 0
actor.adam.lr -1e-6
actor.adam.lr nan
actor.adam.lr inf
actor.adam.betas 0.9 1
actor.adam.betas -0.1 0.95
actor.adam.eps 0
actor.adam.weight_decay -0.1
actor.muon.lr 0
actor.muon.momentum 1
actor.lr_warmup_ratio 1.5
actor.min_lr_ratio -1
actor.max_norm -1
actor.max_norm nan
actor.eps_clip 0
actor.eps_clip -0.2
actor.eps_clip nan
actor.eps_clip_low_high 0.2 -0.2
actor.dual_clip 1
actor.entropy_coef nan
actor.aux_loss_coef -1
actor.num_nodes 0
actor.num_gpus_per_node 0
ref.num_gpus_per_node 0
vllm.num_engines 0
vllm.tensor_parallel_size 0
vllm.gpu_memory_utilization 0
vllm.gpu_memory_utilization 1.5
algo.kl.init_coef -0.1
algo.kl.init_coef nan
algo.kl.target 0
algo.kl.horizon 0
algo.advantage.gamma 1.1
algo.advantage.lambd -1
algo.advantage.is_correction_threshold 5 0.5
algo.advantage.is_correction_threshold -1 5
algo.dynamic_filtering_range 1 0
reward.clip_range 10 -10
reward.clip_range nan 1
reward.overlong_buffer_len 0
reward.overlong_penalty_factor -1
reward.stop_properly_penalty_coef 1.5
critic.adam.lr 0
critic.value_clip 0
critic.freezing_steps -2
ds.zero_stage 4
ds.ring_attn_size 0
ds.tensor_parallel_size 0
ds.lora.rank -1
ds.lora.dropout 1
ckpt.save_steps 0
ckpt.max_num 0
ckpt.max_mem 0
logger.logging_steps 0
math.format_reward 2
math.correct_reward nan
math.grading_seconds 0
math.grading_gib 0
math.grading_workers 0
math.max_bad_golds 1.5
math.max_logprob_gap 0
math.max_logprob_gap nan
math.curriculum_explore nan
math.pass_rate_half_life 0
math.grow_at nan
math.grow_to 0
math.max_bad_steps 0
math.engine_restarts -1
"""
BAD = [line.split() for line in BAD.strip().splitlines()]

BAD_OF_SFT = """
train.batch_size 0
train.micro_batch_size -1
train.max_epochs 0
data.max_samples 0
data.max_len 0
adam.lr 0
adam.lr nan
adam.betas 1 0.9
lr_warmup_ratio 2
max_norm -1
model.aux_loss_coef -1
ds.zero_stage 5
ds.lora.rank -1
ckpt.save_steps 0
eval.steps -3
logger.logging_steps 0
"""
BAD_OF_SFT = [line.split() for line in BAD_OF_SFT.strip().splitlines()]


def refused(command: list[str], name: str, values: list[str], capsys) -> None:
    given = [f"--{name}={values[0]}"] if len(values) == 1 else [f"--{name}", *values]
    assert main([*command, *given]) == 2
    output = capsys.readouterr()
    assert re.search(rf"--{re.escape(name)}\b", output.err) and not output.out
    assert len(output.err.strip().splitlines()) == 1 and "Traceback" not in output.err


@pytest.mark.parametrize(("name", "values"), [(name, values) for name, *values in BAD], ids=map("=".join, BAD))
def test_invalid_number(name, values, capsys):
    refused(GRPO, name, values, capsys)


@pytest.mark.parametrize(("name", "values"), [(name, values) for name, *values in BAD_OF_SFT])
def test_invalid_number_for_sft(name, values, capsys):
    refused(SFT, name, values, capsys)


def test_every_numeric_flag_is_checked(capsys):
    """Every one has a value that is refused: NaN where it is real, a very negative number where it is whole."""
    for action in build_parser("grpo")._actions:
        if action.type not in (int, float) or action.dest in ("local_rank", "math.grow_by", "math.grow_after"):
            continue
        bad = "nan" if action.type is float else str(-(10**12))
        count = action.nargs if isinstance(action.nargs, int) else 1
        refused(GRPO, action.dest, [bad] * count, capsys)


@pytest.mark.parametrize(
    "flags",
    [
        "--rollout.temperature 1.3 --rollout.top_p 1.0",
        "--actor.max_norm 0 --actor.entropy_coef 0 --actor.adam.weight_decay 0 --actor.eps_clip_low_high 0.2 0.28",
        "--algo.kl.init_coef 0.001 --algo.kl.use_loss --algo.kl.estimator k3",
        "--reward.stop_properly_penalty_coef -0.5 --reward.clip_range -5 inf --math.max_logprob_gap inf",
        "--algo.advantage.is_correction_threshold 2 --algo.advantage.is_correction_level token",
        "--ckpt.save_steps -1 --eval.steps -1 --train.seed 0 --eval.temperature 0 --math.max_bad_golds 1",
        "--math.format_reward -1 --math.correct_reward 1",
    ],
)
def test_valid_numbers(flags, capsys, tmp_path):
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    assert main([*GRPO, "--actor.model_name_or_path", str(tmp_path), *flags.split()]) == 0


def test_error_comes_quickly_without_torch_or_ray():
    code = (
        "import sys; from openrlhf_math.cli import main\n"
        f"code = main({[*GRPO[:-1], '--rollout.temperature', '0']!r})\n"
        "print(code, *(name for name in ('torch', 'ray', 'vllm', 'transformers') if name in sys.modules))"
    )
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["2"], result.stdout + result.stderr
    assert "--rollout.temperature 0" in result.stderr
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime < 2, "seconds of processor time"
