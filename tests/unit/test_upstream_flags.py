"""Command lines of OpenRLHF's published scripts of several releases: what they ask for is what is set up.

The flags are those of the scripts, written again; their meaning is that of the release's help.
"""

import re
import shlex
from pathlib import Path

import pytest

from openrlhf_math.cli import grpo, main, sft
from openrlhf_math.cli.parsing import parse

HYBRID_PPO = """
--ref_num_nodes 1 --ref_num_gpus_per_node 8 --reward_num_nodes 1 --reward_num_gpus_per_node 8 --critic_num_nodes 1
--critic_num_gpus_per_node 8 --actor_num_nodes 1 --actor_num_gpus_per_node 8 --vllm_num_engines 4
--vllm_tensor_parallel_size 2 --colocate_all_models --vllm_gpu_memory_utilization 0.5 --pretrain some/model
--reward_pretrain some/rm --save_path final --ckpt_path ckpt --save_hf_ckpt --train_batch_size 128
--rollout_batch_size 1024 --n_samples_per_prompt 1 --max_epochs 1 --prompt_max_len 1024 --max_samples 100000
--generate_max_len 2048 --zero_stage 3 --param_dtype bf16 --actor_learning_rate 5e-7 --critic_learning_rate 9e-6
--init_kl_coef 0.01 --prompt_data some/prompts --input_key context_messages --apply_chat_template --normalize_reward
--gradient_checkpointing --packing_samples --vllm_sync_backend nccl --enforce_eager --vllm_enable_sleep
--deepspeed_enable_sleep --use_dynamic_batch --train_max_tokens_per_gpu 16384 --enable_vllm_is_correction
"""
PRORL = """
--ref_num_nodes 1 --actor_num_gpus_per_node 8 --vllm_num_engines 8 --colocate_all_models --init_kl_coef 1e-4
--gamma 1.0 --use_kl_loss --kl_estimator k2 --advantage_estimator reinforce_baseline --dynamic_filtering
--dynamic_filtering_reward_range 0 1 --eps_clip_low_high 0.2 0.27 --pretrain some/model --remote_rm_url reward.py
--save_path out --ckpt_path out/ckpt --save_steps 5 --save_hf_ckpt --train_batch_size 1024 --rollout_batch_size 512
--n_samples_per_prompt 16 --use_dynamic_batch --num_episodes 100 --prompt_max_len 1024 --generate_max_len 8192
--zero_stage 3 --param_dtype bf16 --actor_learning_rate 1e-6 --prompt_data some/math --input_key prompt
--label_key label --eval_dataset some/aime --eval_steps 5 --eval_temperature 1.0 --eval_n_samples_per_prompt 4
--apply_chat_template --gradient_checkpointing --packing_samples --enforce_eager --vllm_enable_sleep
--deepspeed_enable_sleep --enable_vllm_is_correction --vllm_is_truncated_threshold 0.5 5.0
--vllm_is_correction_type icepop --train_max_tokens_per_gpu 32768 --stop_properly_penalty_coef 0.0
"""
ASYNC_AGENT = """
--pretrain some/model --load_checkpoint --save_path out --ckpt_path out/ckpt --save_hf_ckpt --max_ckpt_num 3
--save_steps 10 --agent_func_path agent.py --prompt_data some/math --input_key prompt --label_key label
--prompt_max_len 10240 --generate_max_len 64000 --apply_chat_template --packing_samples --rollout_batch_size 128
--n_samples_per_prompt 8 --train_batch_size 1024 --dynamic_filtering --dynamic_filtering_reward_range 0.0 1.0
--use_dynamic_batch --train_max_tokens_per_gpu 16192 --rollout_max_tokens_per_gpu 32768 --micro_train_batch_size 1
--micro_rollout_batch_size 8 --max_samples 128000 --max_epochs 1 --num_episodes 1 --async_train --ref_num_nodes 1
--ref_num_gpus_per_node 4 --actor_num_nodes 1 --actor_num_gpus_per_node 4 --vllm_num_engines 2
--vllm_tensor_parallel_size 2 --vllm_gpu_memory_utilization 0.7 --colocate_all_models --deepspeed_enable_sleep
--vllm_sync_backend nccl --enforce_eager --zero_stage 3 --gradient_checkpointing --adam_offload --ring_attn_size 2
--ring_head_stride 2 --param_dtype bf16 --advantage_estimator reinforce_baseline --actor_learning_rate 5e-7
--entropy_loss_coef 0.0 --init_kl_coef 1e-5 --use_kl_loss --kl_estimator k2 --use_tensorboard out/runs
--logging_steps 1 --eval_steps -1
"""
SLURM_PPO = """
--ref_num_nodes 1 --reward_num_gpus_per_node 2 --critic_num_gpus_per_node 4 --actor_num_gpus_per_node 8
--pretrain some/model --reward_pretrain some/rm --save_path out --micro_train_batch_size 4 --train_batch_size 128
--micro_rollout_batch_size 8 --rollout_batch_size 1024 --max_epochs 1 --prompt_max_len 1024 --generate_max_len 1024
--zero_stage 2 --bf16 --actor_learning_rate 5e-7 --critic_learning_rate 9e-6 --init_kl_coef 0.01 --prompt_data a,b,c
--prompt_data_probs 0.4,0.5,0.1 --max_samples 80000 --normalize_reward --actor_init_on_gpu --adam_offload --flash_attn
--gradient_checkpointing --use_wandb SECRET
"""
NEWEST = """
--ref.num_nodes 1 --ref.num_gpus_per_node 2 --critic.num_nodes 1 --critic.num_gpus_per_node 2 --actor.num_nodes 1
--actor.num_gpus_per_node 2 --vllm.num_engines 2 --vllm.tensor_parallel_size 2 --train.colocate_actor_ref
--actor.model_name_or_path some/model --reward.remote_url reward.py --ckpt.output_dir out --train.micro_batch_size 8
--train.batch_size 128 --rollout.micro_batch_size 16 --rollout.batch_size 1024 --data.max_samples 100000
--train.max_epochs 1 --data.max_len 2048 --fsdp.param_dtype bf16 --actor.adam.lr 5e-7 --critic.adam.lr 9e-6
--algo.kl.init_coef 0.01 --data.prompt_dataset some/prompts --data.input_key context_messages
--data.apply_chat_template --reward.normalize_enable --fsdp.attn_implementation flash_attention_2
--actor.gradient_checkpointing_enable --algo.advantage.is_correction_enable --logger.wandb.key SECRET
"""
SFT = """
--max_len 2048 --dataset some/set --dataset_probs 1.0 --input_key question --output_key response
--train_batch_size 256 --micro_train_batch_size 2 --max_samples 500000 --pretrain some/model --save_path out
--save_steps -1 --logging_steps 1 --eval_steps -1 --zero_stage 2 --max_epochs 1 --bf16
--attn_implementation flash_attention_2 --learning_rate 5e-6 --load_checkpoint --packing_samples
--gradient_checkpointing --lr_warmup_ratio 0.1 --l2 0.01
"""


def read(command, text: str) -> dict:
    """The settings by dotted name, as the command's parser has them."""
    parser = command.build_parser("command")
    return vars(parse(parser, command.translate(parser, shlex.split(text))))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (
            HYBRID_PPO,
            {
                "ref.num_gpus_per_node": 8, "reward.num_gpus_per_node": 8, "critic.num_nodes": 1,
                "actor.num_gpus_per_node": 8, "vllm.num_engines": 4, "vllm.tensor_parallel_size": 2,
                "train.colocate_all": True, "actor.model_name_or_path": "some/model",
                "reward.model_name_or_path": "some/rm", "ckpt.output_dir": "final", "ckpt.path": "ckpt",
                "ckpt.save_hf": True, "train.batch_size": 128, "rollout.batch_size": 1024,
                "rollout.n_samples_per_prompt": 1, "data.max_len": 3072, "rollout.max_new_tokens": 2048,
                "ds.zero_stage": 3, "ds.param_dtype": "bf16", "actor.adam.lr": 5e-7, "critic.adam.lr": 9e-6,
                "algo.kl.init_coef": 0.01, "data.prompt_dataset": "some/prompts", "data.input_key": "context_messages",
                "reward.normalize_enable": True, "actor.gradient_checkpointing_enable": True,
                "vllm.enforce_eager": True, "vllm.enable_sleep": True, "ds.enable_sleep": True,
                "train.max_tokens_per_gpu": 16384, "algo.advantage.is_correction_level": "token",
                "algo.advantage.is_correction_mode": "clip",
            },
        ),
        (
            PRORL,
            {
                "algo.advantage.gamma": 1.0, "algo.kl.use_loss": True, "algo.kl.estimator": "k2",
                "algo.advantage.estimator": "reinforce_baseline", "algo.dynamic_filtering_enable": True,
                "algo.dynamic_filtering_range": [0.0, 1.0], "actor.eps_clip_low_high": [0.2, 0.27],
                "reward.remote_url": "reward.py", "train.num_episodes": 100, "eval.dataset": "some/aime",
                "eval.n_samples_per_prompt": 4, "rollout.n_samples_per_prompt": 16, "eval.temperature": 1.0,
                "rollout.max_new_tokens": 8192, "data.max_len": 9216, "data.label_key": "label",
                "algo.advantage.is_correction_level": "token", "algo.advantage.is_correction_mode": "mask",
                "algo.advantage.is_correction_threshold": [0.5, 5.0], "reward.stop_properly_penalty_coef": 0.0,
            },
        ),
        (
            ASYNC_AGENT,
            {
                "ckpt.load_enable": True, "ckpt.max_num": 3, "train.agent_func_path": "agent.py",
                "rollout.max_tokens_per_gpu": 32768, "rollout.micro_batch_size": 8, "train.micro_batch_size": 1,
                "train.async_enable": True, "ds.ring_attn_size": 2, "ds.ring_attn_head_stride": 2,
                "actor.entropy_coef": 0.0, "logger.tensorboard_dir": "out/runs", "eval.steps": -1,
                "ds.adam_offload": True, "algo.kl.init_coef": 1e-5,
            },
        ),
        (
            SLURM_PPO,
            {
                "ds.param_dtype": "bf16", "ds.attn_implementation": "flash_attention_2", "logger.wandb.key": "SECRET",
                "data.prompt_probs": "0.4,0.5,0.1", "reward.num_gpus_per_node": 2, "critic.num_gpus_per_node": 4,
            },
        ),
        (
            NEWEST,
            {
                "train.colocate_actor_ref": True, "ds.param_dtype": "bf16",
                "ds.attn_implementation": "flash_attention_2", "algo.advantage.is_correction_level": "token",
            },
        ),
    ],
    ids=["hybrid ppo", "prorl", "async agent", "slurm ppo", "newest"],
)  # fmt: skip
def test_script_of_grpo_or_ppo(text, meant):
    found = read(grpo, text)
    assert {name: found[name] for name in meant} == meant


def test_script_of_sft():
    found = read(sft, SFT)
    meant = {
        "data.max_len": 2048, "data.dataset": "some/set", "data.input_key": "question", "data.output_key": "response",
        "train.batch_size": 256, "train.micro_batch_size": 2, "model.model_name_or_path": "some/model",
        "ckpt.output_dir": "out", "ds.zero_stage": 2, "ds.param_dtype": "bf16", "adam.lr": 5e-6,
        "ckpt.load_enable": True, "model.gradient_checkpointing_enable": True, "adam.weight_decay": 0.01,
        "lr_warmup_ratio": 0.1,
    }  # fmt: skip
    assert {name: found[name] for name in meant} == meant


def test_no_key_is_shown(capsys):
    read(grpo, SLURM_PPO)
    read(grpo, NEWEST)
    assert "SECRET" not in capsys.readouterr().err


def test_every_translation_is_shown(capsys):
    read(grpo, "--pretrain x --bf16 --prompt_max_len 5")
    shown = [line.split() for line in capsys.readouterr().err.splitlines()[1:]]
    assert shown == [
        ["--pretrain", "--actor.model_name_or_path"],
        ["--bf16", "--ds.param_dtype", "bf16"],
        ["--prompt_max_len", "--data.max_len", "1029", "--rollout.max_new_tokens", "1024"],
    ]


def test_flags_of_the_pinned_release_are_unchanged(capsys):
    from openrlhf_math.patches.parsers import load_parser

    parser = grpo.build_parser("command")
    options = [action.option_strings[0] for action in load_parser("openrlhf.cli.train_ppo_ray")[0]()._actions]
    assert grpo.translate(parser, options) == options
    assert "another OpenRLHF release" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--actor.modle", "x"], "--actor.model_name_or_path"),
        (["--train.epochs", "3"], "--train.max_epochs"),
        (["--rollout.n_sample_per_prompt", "3"], "--rollout.n_samples_per_prompt"),
        (["--temprature", "1"], "--temprature"),
        (["stray"], "stray"),
        (["--train.seed", "a"], "--train.seed"),
    ],
)
def test_flag_that_cannot_be_read_is_one_line(words, named, capsys):
    assert main(["grpo", *words]) == 2
    result = capsys.readouterr().err
    assert len(result.splitlines()) == 1 and named in result and words[0] in result


def test_same_for_a_two_word_command(capsys):
    assert main(["prm", "train", "--nonsense"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_recipe_none_has_upstream_defaults():
    from openrlhf_math.grpo.settings import resolve
    from openrlhf_math.patches.parsers import load_parser

    upstream = {action.dest: action.default for action in load_parser("openrlhf.cli.train_ppo_ray")[0]()._actions}
    parser = grpo.build_parser("command")
    words = shlex.split("--math.recipe none --actor.model_name_or_path some/model --data.prompt_dataset some/set")
    flat = parse(parser, grpo.translate(parser, words))
    assert vars(flat).pop(grpo.GIVEN) == words[::2]
    args = resolve(flat)

    def found(name: str):
        value = args
        for part in name.split("."):
            value = getattr(value, part)
        return value

    own = (  # of the run's directory, its device and the batches without padding, and what is named
        "actor.model_name_or_path", "data.prompt_dataset", "ckpt.path", "ckpt.output_dir", "logger.tensorboard_dir",
        "logger.wandb.run_name", "ds.attn_implementation", "vllm.enable_sleep", "ds.enable_sleep", "vllm.num_engines",
        "critic.model_name_or_path", "train.agent_func_path", "help", "algo.dynamic_filtering_range",
        "actor.eps_clip_low_high",
        # What OpenRLHF's own checks fill in.
        "reward.remote_url", "rollout.vllm_generate_batch_size",
    )  # fmt: skip

    def plain(value):
        return list(value) if isinstance(value, tuple | list) else value

    changed = {
        name: found(name) for name in upstream if name not in own and plain(found(name)) != plain(upstream[name])
    }
    assert changed == {}


def test_page_lists_the_defaults_that_differ():
    """A default of ours that depends on other flags is None in the parser."""
    from openrlhf_math.grpo.objective import RECIPES
    from openrlhf_math.patches.parsers import load_parser

    page = (Path(__file__).parents[2] / "docs" / "from-openrlhf.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (.*) \| .* \|$", page.split("## Defaults that differ")[1], re.M))
    parser, upstream = grpo.build_parser("command"), load_parser("openrlhf.cli.train_ppo_ray")[0]()
    recipe = RECIPES["poster"].values | {"actor.eps_clip": upstream.get_default("actor.eps_clip")}
    recipe["actor.eps_clip_low_high"] = None  # (0.2, 0.2) is what OpenRLHF makes of the other
    differ = {
        action.dest
        for action in upstream._actions
        if recipe.get(action.dest, parser.get_default(action.dest)) != action.default
    }
    assert set(rows) == differ
    assert (rows["rollout.batch_size"], rows["algo.advantage.estimator"]) == ("1024", "gae")


def test_names_of_other_commands_are_accepted(capsys):
    found = read(
        grpo, "--model m --problems p.jsonl --problem-key q --answer-key=a --output out --instruction '' --seed 3"
    )
    meant = {
        "actor.model_name_or_path": "m", "data.prompt_dataset": "p.jsonl", "data.input_key": "q", "data.label_key": "a",
        "math.run_dir": "out", "math.instruction": "", "train.seed": 3,
    }  # fmt: skip
    assert {name: found[name] for name in meant} == meant
    assert read(sft, "--model m --output out")["model.model_name_or_path"] == "m"
    assert capsys.readouterr().err == ""


def test_help_is_short_and_fits_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    lines = {}
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit) as ended:
            main(["grpo", flag])
        assert ended.value.code == 0
        lines[flag] = capsys.readouterr().out.splitlines()
    assert max(map(len, lines["--help"])) <= 80
    assert "what you need:" in lines["--help"] and len(lines["--help"]) < len(lines["--help-all"]) / 2
    named = {word.rstrip(",") for line in lines["--help-all"] for word in line.split() if word.startswith("--")}
    options = {option for action in grpo.build_parser("x")._actions for option in action.option_strings}
    assert {option for option in options if option.startswith("--")} <= named
