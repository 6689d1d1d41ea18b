"""`--math.overlap 1` on real engines: they write the next batch while the policy trains, and a kill changes nothing."""

import pytest
import test_faults
from test_resume import Run, after, assert_equal, end, few_problems, records

from openrlhf_math.runs.records import read_records

pytestmark = pytest.mark.slow
# Two episodes of two steps, on a device for the policy and one for the engine.
FLAGS = (
    "--math.overlap", "1", "--no-train.colocate_all", "--data.max_samples", "16", "--train.num_episodes", "2",
    "--eval.steps", "2", "--eval.n_samples_per_prompt", "2", "--math.engine_restarts", "1",
)  # fmt: skip


def test_engines_generate_during_training_and_a_killed_run_resumes_with_the_same_batches(demo, tmp_path):
    flags = (*FLAGS, "--eval.dataset", str(few_problems(demo, tmp_path / "eval.jsonl")))
    whole, run = Run(demo, tmp_path / "whole", *flags), Run(demo, tmp_path / "killed", *flags)
    whole.finish()
    steps = records(whole.directory / "metrics.jsonl")
    assert [step["weights_version"] for step in steps] == [0, 0, 1, 2]
    assert [step["off_policy_steps"] for step in steps] == [0, 1, 1, 1]
    assert [step["rollout_corr/active"] for step in steps] == [0, 1, 1, 1]
    timeline = read_records(whole.directory / "metrics.jsonl").rows
    for before, step in zip(timeline, timeline[1:], strict=False):
        shared = min(before["timeline/train_end"], step["timeline/rollout_end"]) - max(
            before["timeline/train_begin"], step["timeline/rollout_begin"]
        )
        written = step["timeline/rollout_end"] - step["timeline/rollout_begin"]
        assert shared > 0.5 * written, "most of a batch is written while the one before is trained"
    problems = [set(record["problems"]) for record in records(whole.directory / "problems.jsonl")]
    assert all(not first & second and len(first | second) == 16 for first, second in (problems[:2], problems[2:]))

    end(run, run.start(), after(run, 2, delay=0.2))
    run.finish("--ckpt.load_enable")
    assert_equal(whole.directory, run.directory)


def test_engine_that_dies_during_training_gets_new_weights_and_its_requests(demo, tmp_path):
    flags = ("--math.overlap", "1", "--no-train.colocate_all")
    run = test_faults.Run(demo, tmp_path, *flags, steps=4, seconds=0.5)
    try:
        run.until_mid_rollout(1)
        run.engine().kill()
        assert run.ends(test_faults.PATIENCE) == 0, run.said()
    finally:
        run.process.kill()
    steps = run.steps()
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    assert sum(step["engine_restarts"] for step in steps) == 1
    assert all(0 <= step["off_policy_steps"] <= 1 for step in steps)
    drawn = [problem for record in records(run.run_dir / "problems.jsonl") for problem in record["problems"]]
    assert sorted(drawn) == list(range(4 * test_faults.PROMPTS)), "none is lost, none comes twice"
    assert steps[3]["off_policy_steps"] == 1 and steps[3]["weights_version"] == 2
