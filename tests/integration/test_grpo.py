"""`openrlhf-math grpo` on the real stack: which actors it creates, with and without a reference."""

import json
from pathlib import Path

import pytest

from openrlhf_math.cli import main

pytestmark = pytest.mark.usefixtures("shared_imports")
EXAMPLES = Path(__file__).parents[2] / "examples"


def flags(demo, run_dir, *more: str) -> list[str]:
    return [
        "grpo", "--actor.model_name_or_path", str(demo / "sft" / "model"),
        "--data.prompt_dataset", str(demo / "world" / "train.jsonl"), "--data.max_samples", "8",
        "--math.run_dir", str(run_dir), "--math.instruction", "", "--math.answer_style", "think",
        "--rollout.batch_size", "8", "--rollout.n_samples_per_prompt", "4",
        "--data.max_len", "256", "--rollout.max_new_tokens", "64", *more,
    ]  # fmt: skip


def only_record(run_dir) -> dict:
    (line,) = (run_dir / "metrics.jsonl").read_text().splitlines()
    return json.loads(line)


def test_without_kl_there_is_no_reference_actor(demo, tmp_path, created, shared_imports):
    assert main(flags(demo, tmp_path / "run")) == 0
    assert created == ["MathPolicyActor"]
    assert only_record(tmp_path / "run")["kl"] == 0
    log = (shared_imports / "log").read_text()
    # the policy and the rollout actor; one that cannot be forked starts as a plain process, seconds later, in silence
    assert log.count("forked") >= 2 and "not forked" not in log


def test_with_kl_upstream_reference_actor_runs_with_ours(demo, tmp_path, created):
    more = ("--algo.kl.init_coef", "0.01", "--algo.kl.use_loss", "--algo.kl.estimator", "k3")
    two_steps = ("--data.max_samples", "16", "--actor.adam.lr", "1e-3", "--actor.lr_scheduler", "constant")
    assert main(flags(demo, tmp_path / "run", *more, *two_steps)) == 0
    assert created == ["MathPolicyActor", "MathReferenceActor"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    start, moved = (row["kl"] for row in rows)
    assert abs(start) < 1e-3 and moved > 1e-3  # before the first step the policy is the reference


def test_teacher_replaces_the_reference_model(demo, tmp_path, created):
    """It is the policy of the start, so before the first step they are equal, and there is no reward."""
    student = demo / "sft" / "model"
    more = ("--math.teacher", str(student), "--math.reward_coef", "0", "--data.max_samples", "16")
    moves = ("--actor.entropy_coef", "0.5", "--actor.adam.lr", "1e-3", "--actor.lr_scheduler", "constant")
    assert main(flags(demo, tmp_path / "run", *more, *moves)) == 0
    assert created == ["MathPolicyActor", "MathReferenceActor"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    start, moved = (abs(row["teacher/reverse_kl"]) for row in rows)
    assert start < 1e-4 and moved > 1e-3
    assert all(row["zero_advantage_rate"] == row["kl"] == 0 and row["timing/teacher"] > 0 for row in rows)


@pytest.mark.slow
def test_teacher_behind_a_server(demo, tmp_path, created):
    """Transformers gives the log-probabilities here, the policy's own of the start."""
    from scoring_server import ScoringServer
    from transformers import AutoModelForCausalLM, AutoTokenizer

    student = demo / "sft" / "model"
    with ScoringServer(AutoModelForCausalLM.from_pretrained(student), AutoTokenizer.from_pretrained(student)) as server:
        assert main(flags(demo, tmp_path / "run", "--math.teacher", server.url)) == 0
    assert created == ["MathPolicyActor"] and len(server.requests) == 1 + 8 * 4
    assert abs(only_record(tmp_path / "run")["teacher/reverse_kl"]) < 2e-3


@pytest.mark.parametrize("estimator", [pytest.param(one, marks=pytest.mark.slow) for one in ("rloo", "grpo_no_std")])
def test_other_estimators(demo, tmp_path, estimator):
    assert main(flags(demo, tmp_path / "run", "--algo.advantage.estimator", estimator)) == 0
    assert only_record(tmp_path / "run")["grad_norm"] > 0


@pytest.mark.parametrize(
    "recipe", ["dr_grpo", *(pytest.param(one, marks=pytest.mark.slow) for one in ("dapo", "gspo", "cispo", "sapo"))]
)
def test_recipe_with_two_steps_a_batch_and_a_correction(demo, tmp_path, recipe):
    upstreams = ("--algo.advantage.estimator", "dr_grpo") if recipe == "dr_grpo" else ()
    more = ("--math.recipe", recipe, "--train.batch_size", "16", "--math.rollout_correction", "auto", *upstreams)
    if recipe == "dapo":  # it fills its batch with groups that have a gradient, so 8 problems may be too few
        more = (*more, "--data.max_samples", "64")
    assert main(flags(demo, tmp_path / "run", *more)) == 0
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert record["grad_norm"] > 0 and record["skipped_steps"] == 0
    assert 0.98 < record["rollout_corr/ess"] <= 1 and record["rollout_corr/corrected_rate"] < 0.01
    objective = json.loads((tmp_path / "run" / "config.json").read_text())["objective"]
    assert objective["recipe"] == recipe and objective["rollout correction"] == "token clip, ratio 0 to 2"


@pytest.mark.slow
def test_custom_reward(demo, tmp_path):
    assert main(flags(demo, tmp_path / "run", "--train.agent_func_path", str(EXAMPLES / "own_reward.py"))) == 0
    record = only_record(tmp_path / "run")
    plain = record["accuracy"] + 0.2 * (record["format_rate"] - record["accuracy"])
    assert 0.3 * plain < record["reward"] < 0.95 * plain


def test_custom_estimator_loss_and_curriculum(demo, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES))
    own = ("--algo.advantage.estimator", "own_estimator.hard_first", "--math.curriculum", "own_curriculum.around_half")
    loss = ("--actor.policy_loss_type", "own_loss.gentle_with_wrong")
    assert main(flags(demo, tmp_path / "run", *own, *loss)) == 0
    assert only_record(tmp_path / "run")["grad_norm"] > 0


@pytest.mark.parametrize(
    "more",
    [(), pytest.param(("--train.batch_size", "16"), marks=pytest.mark.slow)],
    ids=["one step a batch", "two steps a batch"],
)
def test_large_engine_mismatch_ends_the_run(demo, tmp_path, capsys, more):
    assert main(flags(demo, tmp_path / "run", "--math.max_logprob_gap", "1e-9", *more)) == 1
    assert "--math.max_logprob_gap 1e-09" in capsys.readouterr().err
    assert 1e-9 < only_record(tmp_path / "run")["logprob_gap"] < 0.03
