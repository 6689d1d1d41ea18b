"""Faults without engines: limits of phases, steps that are skipped, a reward that raises."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open

from openrlhf_math.errors import UserError
from openrlhf_math.grpo.faults.watchdog import PHASE_SECONDS, FaultSettings, Overdue, Watchdog, faults, parse_limits
from openrlhf_math.grpo.rollout.ungraded import RewardErrors
from openrlhf_math.grpo.update.bad_steps import BadSteps


def test_limits_of_phases():
    assert parse_limits("--f", "rollout=30, save=0.5") == {"rollout": 30.0, "save": 0.5}
    assert set(PHASE_SECONDS) == {"start", "rollout", "train", "sync", "save", "evaluate"}


@pytest.mark.parametrize("text", ["rolout=3", "rollout", "rollout=soon", "rollout=0", "rollout=nan", ""])
def test_invalid_limits_name_the_flag(text):
    with pytest.raises(UserError, match="^--f "):
        parse_limits("--f", text)


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("max_bad_steps", 0, "--math.max_bad_steps 0: give 1 or more"),
        ("engine_restarts", -1, "--math.engine_restarts -1: give 0 (never) or more"),
        ("phase_timeout", "train", "--math.phase_timeout train: 'train' is not PHASE=SECONDS"),
    ],
)
def test_invalid_settings(flag, value, sentence):
    ours = {"math.max_bad_steps": 3, "math.engine_restarts": 3, "math.phase_timeout": None}
    assert faults(ours) == FaultSettings()
    with pytest.raises(UserError) as raised:
        faults(ours | {f"math.{flag}": value})
    assert str(raised.value).startswith(sentence)


def test_phase_that_takes_too_long_is_interrupted_and_named(tmp_path):
    started = time.monotonic()
    with (
        pytest.raises(Overdue, match=r"phase sync: not done within 0.2 s .*it waited for two engines") as raised,
        Watchdog({"start": 60, "sync": 0.2}, tmp_path) as watchdog,
    ):
        watchdog.begin("start", "nothing")
        with watchdog.phase("sync", lambda: "two engines"):
            time.sleep(30)
    assert time.monotonic() - started < 25
    assert str(tmp_path / "stacks.txt") in str(raised.value)
    assert "time.sleep(30)" not in (stacks := (tmp_path / "stacks.txt").read_text()) and "test_fault_rules.py" in stacks


def test_error_of_interrupted_code_does_not_hide_the_cause(tmp_path):
    with pytest.raises(Overdue, match="phase train"), Watchdog({"train": 0.2}, tmp_path) as watchdog:
        watchdog.begin("train", "the policy")
        try:
            time.sleep(30)
        except Overdue:
            raise KeyboardInterrupt from None  # as a wait for Ray does


def test_clock_of_a_phase_starts_again_when_one_within_it_ends(tmp_path):
    with Watchdog({"train": 1.2, "sync": 60}, tmp_path) as watchdog:
        watchdog.begin("train", "the policy")
        for _ in range(3):
            with watchdog.phase("sync", "engines"):
                time.sleep(0.6)
    assert watchdog.verdict is None


LAST_WORDS = """
import os, pathlib, time
from openrlhf_math.grpo.faults.stopping import LastWords
from openrlhf_math.grpo.faults import watchdog

with LastWords("killed", "resume with: X") as words:
    {block}
"""
WITHOUT_A_CLUSTER = """watchdog.CLUSTER_SECONDS = 0
    with watchdog.Watchdog(dict(), pathlib.Path("."), lambda: "the head is gone", words.say):
        time.sleep(30)"""


@pytest.mark.parametrize(
    ("block", "code", "said"),
    [
        ("pass", 0, ""),
        ("os.kill(os.getpid(), 9)", -9, "killed\nresume with: X\n"),
        (WITHOUT_A_CLUSTER, 1, "the head is gone\nresume with: X\n"),
    ],
)
def test_unresponsive_process_leaves_a_message(block, code, said):
    command = [sys.executable, "-c", LAST_WORDS.format(block=block)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (code, said)


def grade(text):
    if text == "odd":
        raise LookupError(text)
    return 1 / 0


def test_reward_that_raises_gives_its_traceback_once_for_each_place():
    errors, given = RewardErrors(), []
    for text in ("odd", "odd", "even", "odd"):
        try:
            grade(text)
        except (LookupError, ZeroDivisionError) as error:
            given.append(errors.grade(grade, error))
    grades, tracebacks = zip(*given, strict=True)
    assert [each.outcome for each in grades] == ["ungraded"] * 4 and not any(each.reward for each in grades)
    assert grades[0].reason.startswith("grade raised LookupError at ") and grades[0].reason.endswith(": odd")
    assert [bool(words) for words in tracebacks] == [True, False, True, False]
    assert "raise LookupError(text)" in tracebacks[0] and "return 1 / 0" in tracebacks[2]


def batch():
    row = torch.tensor([[1.0, float("nan")]])
    long = torch.ones(2, 3)
    return [
        SimpleNamespace(sequences=torch.ones(1, 3).long(), attention_mask=torch.ones(1, 3).long(), action_mask=row > 0,
                        advantages=row, returns=row, rollout_log_probs=None, rewards=torch.tensor([1.0]),
                        prompts=["a"], labels=["1"]),
        SimpleNamespace(sequences=torch.ones(2, 4).long(), attention_mask=torch.ones(2, 4).long(), action_mask=long > 0,
                        advantages=long, returns=long, rollout_log_probs=long, rewards=torch.tensor([0.0, 1.0]),
                        prompts=["b", "c"], labels=["2", "3"]),
    ]  # fmt: skip


def record(step, skipped, norm=1.0):
    return {"step": step, "skipped_steps": skipped, "policy_loss": 0.1, "grad_norm": norm}


def test_skipped_steps_end_a_run_only_in_a_row_and_leave_the_batch(tmp_path):
    bad = BadSteps(2, tmp_path)
    for step, skipped in enumerate([1.0, 0.0, 1.0, 0.0]):
        bad.observe(record(step, skipped), batch())
    assert not list(tmp_path.iterdir())
    bad.observe(record(4, 1.0), batch())
    with pytest.raises(RuntimeError, match=r"step 5: .* 2 times in a row \(--math.max_bad_steps 2\)") as raised:
        bad.observe(record(5, 1.0), batch())
    path = tmp_path / "bad_batch_step5.safetensors"
    assert str(path) in str(raised.value)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["prompts"]) == ["a", "b", "c"] and file.metadata()["step"] == "5"
        advantages = file.get_tensor("advantages")
        assert advantages.shape == (3, 3) and advantages.isnan().nonzero().tolist() == [[0, 1]]
        assert file.get_tensor("rewards").tolist() == [1, 0, 1]
        assert "rollout_log_probs" not in file.keys()  # noqa: SIM118  (safetensors' own)


def test_applied_bad_gradient_ends_the_run(tmp_path):
    with pytest.raises(RuntimeError, match="did not skip the step"):
        BadSteps(3, tmp_path).observe(record(1, 0.0, float("inf")), batch())


def test_machine_without_memory_is_one_sentence():
    import ray

    from openrlhf_math.grpo.driver import failure

    said = (
        "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: "
        f"{'bde1' * 14}) was 22.47GB / 23.54GB (0.954310), which exceeds the memory usage threshold of 0.950000; "
        f"Object store memory usage: [- objects spillable: 0; {'- bytes unsealed: 0; ' * 40}]"
    )
    words = str(failure(ray.exceptions.OutOfMemoryError(said)))
    assert "22.47GB / 23.54GB" in words and "--train.max_tokens_per_gpu" in words
    assert "\n" not in words and len(words) < 250 and "bde1" not in words
    assert "out of memory" in str(failure(ray.exceptions.OutOfMemoryError("other words")))
