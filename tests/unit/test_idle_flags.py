"""Flags that nothing in the run reads are named; those that would give another result than asked for are refused."""

import shlex

import pytest

from openrlhf_math.cli import grpo
from openrlhf_math.cli.parsing import parse
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.idle_flags import without_effect
from openrlhf_math.grpo.settings import resolve

MINIMAL = "--actor.model_name_or_path some/model --data.prompt_dataset some/set "


def idle(text: str) -> set[str]:
    parser = grpo.build_parser("command")
    flat = parse(parser, grpo.translate(parser, shlex.split(MINIMAL + text)))
    given = vars(flat).pop(grpo.GIVEN)
    for flag in [name for name in vars(flat) if name.startswith("judge_")]:
        delattr(flat, flag)
    return {flag for flags in without_effect(given, resolve(flat)).values() for flag in flags}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("--critic.adam.lr 1e-6 --critic_num_nodes 1", {"--critic.adam.lr", "--critic.num_nodes"}),
        ("--critic.adam.lr 1e-6 --algo.advantage.estimator gae", set()),
        ("--critic.adam.lr 1e-6 --math.recipe none", set()),
        (
            "--critic.adam.lr 1e-6 --math.recipe none --advantage_estimator rloo --n_samples_per_prompt 2",
            {"--critic.adam.lr"},
        ),
        ("--algo.advantage.lambd 0.9", {"--algo.advantage.lambd"}),
        ("--algo.kl.estimator k3 --algo.kl.target 6", {"--algo.kl.estimator", "--algo.kl.target"}),
        ("--algo.kl.estimator k3 --algo.kl.use_loss --algo.kl.init_coef 0.1", set()),
        ("--ref.offload --ref.num_nodes 1", {"--ref.offload", "--ref.num_nodes"}),
        ("--ref.offload --algo.kl.init_coef 0.1", set()),
        ("--eval.steps 5 --math.eval_top_p 0.9", {"--eval.steps", "--math.eval_top_p"}),
        ("--eval.steps 5 --math.eval_top_p 0.9 --eval.dataset some/set", set()),
        ("--vllm_sync_backend nccl --vllm.sync_with_ray", {"--vllm.sync_backend", "--vllm.sync_with_ray"}),
        ("--ds.packing_samples --ds.attn_implementation eager", {"--ds.packing_samples", "--ds.attn_implementation"}),
        ("--ds.attn_implementation eager --math.shared_prefix off", set()),
        ("--no-math.learn_pass_rates", {"--no-math.learn_pass_rates"}),
        ("--math.curriculum window --math.curriculum_explore 0.3", set()),
        ("--actor.muon.lr 0.1 --train.ema_beta 0.5", {"--actor.muon.lr", "--train.ema_beta"}),
        ("--actor.muon.lr 0.1 --actor.optim muon", set()),
        ("--algo.dynamic_filtering_range 0.1 0.9", {"--algo.dynamic_filtering_range"}),
        ("--algo.dynamic_filtering_range 0.1 0.9 --algo.dynamic_filtering_enable", set()),
        ("--reward.overlong_penalty_factor 2", {"--reward.overlong_penalty_factor"}),
        ("--reward.overlong_penalty_factor 2 --reward.overlong_buffer_len 9 --rollout.max_new_tokens 99", set()),
        ("--reward.normalize_enable", {"--reward.normalize_enable"}),
        ("--logger.wandb.project x", {"--logger.wandb.project"}),
        ("--math.format_reward 0.5 --reward.model_name_or_path some/rm", {"--math.format_reward"}),
        (
            "--math.truncated mask --reward.model_name_or_path some/rm --math.format_reward 0.5"
            " --train.agent_func_path agent.py",
            set(),
        ),
        ("--actor.adam.lr 1e-6 --train.seed 3", set()),
    ],
)
def test_unused_settings_are_named(text, named):
    assert idle(text) == named


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("--algo.advantage.no_std_norm", "--algo.advantage.no_std_norm"),
        ("--algo.advantage.no_std_norm --algo.advantage.estimator group_norm", "--algo.advantage.no_std_norm"),
        ("--algo.advantage.gamma 0.9", "--algo.advantage.gamma 0.9"),
        ("--algo.advantage.gamma 0.9 --algo.advantage.estimator rloo", "--algo.advantage.gamma 0.9"),
        ("--math.grow_by 2", "--math.grow_by 2.0"),
        ("--math.truncated wrong --reward.model_name_or_path some/rm", "--math.truncated wrong"),
        ("--math.curriculum window --reward.model_name_or_path some/rm", "--math.curriculum window"),
        ("--math.grow_after 2", "--math.grow_after 2"),
        ("--data.prompt_probs 0.5,0.5", "--data.prompt_probs 0.5,0.5"),
        ("--data.prompt_dataset a,b --data.prompt_probs 0.5,0.6", "--data.prompt_probs 0.5,0.6"),
        ("--data.prompt_dataset a,b --data.prompt_probs half", "--data.prompt_probs half"),
    ],
)
def test_unrequested_result_is_refused(text, flag):
    with pytest.raises(UserError, match=flag):
        idle(text)


def test_each_set_has_a_share():
    assert idle("--data.prompt_dataset a,b --data.prompt_probs 0.4,0.6") == set()


@pytest.mark.parametrize("estimator", ["gae", "reinforce", "reinforce_baseline"])
def test_estimators_that_whiten_take_it(estimator):
    idle(f"--algo.advantage.no_std_norm --algo.advantage.estimator {estimator}")
