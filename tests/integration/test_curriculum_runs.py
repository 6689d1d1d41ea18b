"""GRPO by a curriculum and with two completion limits on the real stack: killed, it resumes with identical results."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrlhf_math.grpo.curriculum_settings import CurriculumSettings
from openrlhf_math.grpo.problems.difficulty import of_run
from openrlhf_math.grpo.problems.problem_order import CurriculumSampler

STEPS, SAVED_EVERY, LIMITS = 6, 2, [32, 32, 32, 48, 48, 48]


@pytest.fixture(scope="module")
def rated(demo, tmp_path_factory) -> Path:
    """The demo's held-out problems with the student's pass rates."""
    output = tmp_path_factory.mktemp("rated")
    command = [sys.executable, "-m", "openrlhf_math", "curate", "--source", str(demo / "world" / "heldout.jsonl")]
    subprocess.run([*command, "--pass-rate", str(demo / "eval_before"), "--output", str(output)], check=True)
    return output / "problems.jsonl"


def command(demo, problems, run_dir, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "openrlhf_math", "grpo", "--actor.model_name_or_path", str(demo / "sft" / "model"),
        "--data.prompt_dataset", str(problems), "--data.max_samples", str(STEPS * 8),
        "--math.run_dir", str(run_dir), "--math.instruction", "", "--math.answer_style", "think", "--train.seed", "5",
        "--rollout.batch_size", "8", "--rollout.n_samples_per_prompt", "4", "--data.max_len", "256",
        "--math.curriculum", "window", "--math.pass_rate_key", "pass_rate", "--math.length_stages", "0:32,3:48",
        "--ckpt.save_steps", str(SAVED_EVERY), *more,
    ]  # fmt: skip


def by_step(run_dir, name: str) -> dict[int, dict]:
    """Records of a run."""
    records = map(json.loads, (run_dir / name).read_text().splitlines())
    return {record["step"]: record for record in records}


def killed_and_resumed(demo, problems, run_dir, *more: str) -> None:
    """Killed when it has a checkpoint and later steps."""
    process = subprocess.Popen(command(demo, problems, run_dir, *more), stdout=subprocess.DEVNULL)
    try:
        end = time.time() + 200
        while process.poll() is None and time.time() < end:
            if (run_dir / "metrics.jsonl").exists() and 3 in by_step(run_dir, "metrics.jsonl"):
                break
            time.sleep(0.01)
        assert process.poll() is None, "it had ended before it was killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    resume = command(demo, problems, run_dir, "--ckpt.load_enable", *more)
    result = subprocess.run(resume, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "resuming after step" in result.stdout, "it had no checkpoint"
    steps = [json.loads(line)["step"] for line in (run_dir / "problems.jsonl").read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1)), "each step is there once"


def test_killed_run_resumes_with_the_same_problems_and_limits(demo, rated, tmp_path):
    fixed = "--no-math.learn_pass_rates"  # what two runs sample differs, and with it what they would learn
    subprocess.run(command(demo, rated, tmp_path / "whole", fixed), check=True, capture_output=True, timeout=300)
    killed_and_resumed(demo, rated, tmp_path / "killed", fixed)
    runs = [tmp_path / "whole", tmp_path / "killed"]
    whole, killed = ([record["problems"] for record in by_step(run, "problems.jsonl").values()] for run in runs)
    assert len(whole) == STEPS and whole == killed
    for run in runs:
        records = by_step(run, "metrics.jsonl").values()
        assert [record["max_new_tokens"] for record in records] == LIMITS
        assert all(record["completion_length"] <= record["max_new_tokens"] for record in records)
        assert all(0 <= record["curriculum/mixed_rate"] <= 1 for record in records)


@pytest.mark.slow
def test_online_statistics_are_in_the_checkpoint(demo, rated, tmp_path):
    run_dir = tmp_path / "run"
    killed_and_resumed(demo, rated, run_dir)
    records = by_step(run_dir, "problems.jsonl")
    assert sorted(records) == list(range(1, STEPS + 1))
    config = json.loads((run_dir / "config.json").read_text())
    assert config["math"]["curriculum"]["learn"]
    replayed = replay(run_dir, records)
    assert [record["problems"] for record in records.values()] == replayed


@pytest.mark.slow
@pytest.mark.parametrize("truncated", ["mask", "wrong"])
def test_easy_problems_come_first_and_the_limit_grows_with_truncation(demo, tmp_path, truncated):
    problems = tmp_path / "problems.jsonl"
    lines = (demo / "world" / "heldout.jsonl").read_text().splitlines()[: STEPS * 8]
    problems.write_text("\n".join(lines))
    run_dir = tmp_path / "run"
    words = command(demo, problems, run_dir)
    words = words[: words.index("--math.curriculum")]
    words += [
        "--math.curriculum",
        "staged",
        "--math.curriculum_stages",
        "0:2,2:4",
        "--math.difficulty_key",
        "difficulty",
    ]
    words += [
        "--rollout.max_new_tokens",
        "24",
        "--math.grow_at",
        "0.5",
        "--math.grow_to",
        "54",
        "--math.grow_after",
        "2",
    ]
    subprocess.run([*words, "--math.truncated", truncated], check=True, capture_output=True, timeout=300)

    difficulty = [json.loads(line)["difficulty"] for line in lines]
    drawn = [[difficulty[n] for n in record["problems"]] for record in by_step(run_dir, "problems.jsonl").values()]
    assert {one for step in drawn[:2] for one in step} == {2} and 4 in drawn[-1]
    records = list(by_step(run_dir, "metrics.jsonl").values())
    assert [record["max_new_tokens"] for record in records] == [24, 24, 36, 36, 54, 54]
    for record in records:
        if truncated == "mask":  # what is cut off has no part in the loss
            assert record["zero_advantage_rate"] >= record["truncation_rate"]
        else:
            assert record["accuracy"] <= 1 - record["truncation_rate"] + 1e-6
            assert record["reward"] <= record["accuracy"] + 0.2 * (1 - record["truncation_rate"]) + 1e-6


def replay(run_dir, records: dict[int, dict]) -> list[list[int]]:
    """The problems of every step, drawn again by the pure sampler from the outcomes that the run recorded."""
    data = SimpleNamespace(prompt_dataset=str(run_dir / "prompts" / "0.jsonl"), max_samples=STEPS * 8)
    settings = CurriculumSettings("window", pass_rate_key="pass_rate")
    sampler = CurriculumSampler(settings, *of_run(SimpleNamespace(data=data), STEPS * 8), 5)
    draws, drawn = iter(sampler), []
    for step in sorted(records):
        drawn.append(sorted(next(draws) for _ in range(8)))
        record = records[step]
        counts = zip(record["correct"], record["attempts"], strict=True)
        sampler.observe(dict(zip(record["problems"], counts, strict=True)))
    return drawn
