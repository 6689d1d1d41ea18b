"""`--math.recipe` and `--math.rollout_correction`: what they mean, that flags win, and what contradicts them."""

import json

import pytest
from trained_batch import MINIMAL, settings

from openrlhf_math.cli import main
from openrlhf_math.grpo.settings import as_json, only_advantages_teach
from openrlhf_math.patches.parsers import load_parser


def of(args) -> tuple:
    kl = args.algo.kl
    return (
        args.algo.advantage.estimator, args.actor.policy_loss_type, args.actor.loss_agg_mode,
        *args.actor.eps_clip_low_high, kl.init_coef, kl.use_loss, args.algo.dynamic_filtering_enable,
    )  # fmt: skip


# Estimator, loss, aggregation, clip below and above, KL, KL in the loss, groups replaced.
TABLE = """
-        grpo         ppo    seq-mean-token-mean      0.2     0.2     0     0  0
poster   grpo         ppo    seq-mean-token-mean      0.2     0.2     0     0  0
grpo     grpo         ppo    seq-mean-token-mean      0.2     0.2     0.04  1  0
dr_grpo  grpo_no_std  ppo    seq-mean-token-sum-norm  0.2     0.2     0     0  0
dapo     grpo         ppo    token-mean               0.2     0.28    0     0  1
gspo     grpo         gspo   seq-mean-token-mean      0.0003  0.0004  0     0  0
cispo    grpo         cispo  token-mean               1       4       0     0  0
sapo     grpo         sapo   seq-mean-token-mean      0.2     0.2     0     0  0
none     gae          ppo    token-mean               0.2     0.2     0.01  0  0
"""


@pytest.mark.parametrize("row", TABLE.split("\n")[1:-1], ids=lambda row: row.split()[0])
def test_recipe_is_these_flags(row):
    name, *values = row.split()
    found = of(settings(*(("--math.recipe", name) if name != "-" else ())))
    assert found[:3] == tuple(values[:3])
    assert [float(value) for value in found[3:]] == [float(value) for value in values[3:]]


def test_none_equals_upstream():
    upstream = vars(load_parser("openrlhf.cli.train_ppo_ray")[0]().parse_args([]))
    args = settings("--math.recipe", "none")
    for flag in ("algo.advantage.estimator", "actor.policy_loss_type", "actor.loss_agg_mode", "algo.kl.init_coef",
                 "algo.kl.use_loss", "algo.kl.estimator", "algo.dynamic_filtering_enable", "actor.eps_clip",
                 "algo.advantage.is_correction_level", "algo.advantage.is_correction_mode",
                 "algo.advantage.is_correction_gating", "algo.advantage.is_correction_threshold"):  # fmt: skip
        value = args
        for part in flag.split("."):
            value = getattr(value, part)
        assert value == upstream[flag], flag


@pytest.mark.parametrize(
    ("flags", "position", "value"),
    [
        ("--math.recipe dapo --actor.eps_clip_low_high 0.1 0.3", 4, 0.3),
        ("--math.recipe dapo --actor.eps_clip 0.1", 4, 0.1),
        ("--actor.eps_clip 0.3", 3, 0.3),
        ("--math.recipe dapo --no-algo.dynamic_filtering_enable", 7, False),
        ("--math.recipe dapo --algo.advantage.estimator group_norm", 0, "group_norm"),
        ("--math.recipe grpo --algo.kl.init_coef 0.001", 5, 0.001),
        ("--math.recipe gspo --algo.kl.init_coef 0.001", 5, 0.001),
        ("--algo.advantage.estimator rloo", 0, "rloo"),
        ("--actor.loss_agg_mode token-mean", 2, "token-mean"),
        ("--algo.kl.init_coef 0.1", 5, 0.1),
        ("--math.recipe none --actor.policy_loss_type cispo --algo.advantage.estimator rloo", 1, "cispo"),
    ],
)
def test_flag_wins(flags, position, value):
    assert of(settings(*flags.split()))[position] == value


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--math.recipe poster --algo.kl.init_coef 0.1", "--algo.kl.init_coef 0.1"),
        ("--math.recipe grpo --no-algo.kl.use_loss", "--no-algo.kl.use_loss"),
        ("--math.recipe dr_grpo --actor.loss_agg_mode token-mean", "--actor.loss_agg_mode token-mean"),
        ("--math.recipe dr_grpo --algo.advantage.estimator grpo", "--algo.advantage.estimator grpo"),
        ("--math.recipe dapo --actor.loss_agg_mode seq-mean-token-mean", "--actor.loss_agg_mode"),
        ("--math.recipe gspo --actor.policy_loss_type ppo", "--actor.policy_loss_type ppo"),
        ("--math.recipe cispo --actor.policy_loss_type sapo", "--actor.policy_loss_type sapo"),
        ("--actor.eps_clip 0.1 --actor.eps_clip_low_high 0.1 0.2", "--actor.eps_clip and"),
        ("--math.loss_length 100", "--math.loss_length 100"),
        ("--math.recipe dr_grpo --math.loss_length 0", "--math.loss_length 0"),
        ("--math.sapo_tau 1 1", "--math.sapo_tau"),
        ("--math.recipe sapo --math.sapo_tau 0 1", "--math.sapo_tau 0 1"),
        ("--math.recipe cispo --actor.dual_clip 3", "--actor.dual_clip 3"),
        ("--actor.policy_loss_type gspo --actor.loss_agg_mode seq-mean-token-sum-norm", "--actor.loss_agg_mode"),
        ("--actor.policy_loss_type gpso", "--actor.policy_loss_type gpso"),
        ("--math.correct_below_ess 0.9", "--math.correct_below_ess 0.9"),
        ("--math.rollout_correction auto --math.correct_below_ess 1.1", "--math.correct_below_ess 1.1"),
        ("--math.rollout_correction tis --algo.advantage.is_correction_mode mask", "is_correction_mode mask"),
        ("--math.rollout_correction tis --algo.advantage.is_correction_level off", "is_correction_level off"),
        ("--math.rollout_correction off --algo.advantage.is_correction_level token", "is_correction_level token"),
        ("--algo.advantage.is_correction_mode clip", "is_correction_mode"),
        ("--algo.advantage.is_correction_threshold 3", "is_correction_threshold"),
        ("--algo.advantage.is_correction_level seq --algo.advantage.is_correction_mode clip", "_mode clip"),
        ("--algo.advantage.is_correction_level token --algo.advantage.is_correction_gating tv", "is_correction_gating"),
        ("--algo.advantage.is_correction_level token --algo.advantage.is_correction_threshold 1 2 3", "_threshold"),
        ("--actor.policy_loss_type gspo --algo.advantage.is_correction_level token "
         "--algo.advantage.is_correction_mode clip", "is_correction_mode"),
    ],
)  # fmt: skip
def test_contradictions_are_one_sentence(flags, named, capsys):
    assert main(["grpo", *MINIMAL, *flags.split(), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "level", "mode", "threshold"),
    [
        ("off", "off", "mask", [0.5, 5.0]),
        ("tis", "token", "clip", [0.0, 2.0]),
        ("mis", "token", "mask", [0.5, 5.0]),
        ("seq", "seq", "mask", [0.95, 1.05]),
        ("auto", "token", "clip", [0.0, 2.0]),
    ],
)
def test_preset_is_these_flags_of_openrlhf(name, level, mode, threshold):
    found = settings("--math.rollout_correction", name).algo.advantage
    assert (found.is_correction_level, found.is_correction_mode) == (level, mode)
    assert list(found.is_correction_threshold) == threshold and found.is_correction_gating == "ratio"


def test_bounds_of_a_preset_can_be_given():
    flags = ("--math.rollout_correction", "tis", "--algo.advantage.is_correction_threshold", 3)
    assert list(settings(*flags).algo.advantage.is_correction_threshold) == [0.0, 3.0]


@pytest.mark.parametrize(
    ("flags", "length"),
    [
        ("", 900),
        ("--math.loss_length 77", 77),
        ("--math.length_stages 0:100,5:300", 300),
        ("--math.grow_at 0.5 --math.grow_to 950", 950),
    ],
)
def test_constant_is_the_last_completion_limit(flags, length):
    limit = () if "stages" in flags else ("--rollout.max_new_tokens", 900)
    args = settings("--math.recipe", "dr_grpo", *limit, *flags.split())
    assert args.math.objective.loss_length == length
    assert settings("--math.recipe", "dr_grpo").math.objective.loss_length == args.data.max_len
    assert settings().math.objective.loss_length is None


def test_objective_is_written_in_one_block():
    flags = ("--math.recipe", "grpo", "--train.batch_size", 64, "--math.rollout_correction", "mis")
    assert json.loads(as_json(settings(*flags)))["objective"] == {
        "recipe": "grpo",
        "estimator": "grpo",
        "loss": "ppo",
        "aggregation": "seq-mean-token-mean",
        "clip range": "0.8 to 1.2",
        "KL": "0.04 of k3, in the loss",
        "rollout correction": "token mask, ratio 0.5 to 5",
        "optimizer steps a batch": "2",
    }


@pytest.mark.parametrize(("loss", "skips"), [("ppo", True), ("cispo", True), ("sapo", True), ("own.loss", False)])
def test_only_known_losses_skip_zero_advantage_completions(loss, skips):
    assert only_advantages_teach(settings("--actor.policy_loss_type", loss)) is skips
