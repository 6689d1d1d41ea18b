"""Runs that are killed, stopped and out of room, on the real stack: what they leave equals an undisturbed run's."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

MEASURED = ("timing/", "timeline/", "memory/", "transfer/", "seconds")  # what differs between any two runs
EVERYTHING = (
    "--math.curriculum", "window", "--algo.dynamic_filtering_enable",
    "--data.max_samples", "160", "--eval.steps", "2", "--eval.n_samples_per_prompt", "2",
)  # fmt: skip
# Two episodes of three steps; micro-batches in random order; ZeRO-3.
TWO_RANKS = (
    "--data.max_samples", "24", "--train.num_episodes", "2", "--math.shared_prefix", "off",
    "--actor.num_gpus_per_node", "2", "--ds.zero_stage", "3",
)  # fmt: skip


class Run:
    """A run directory, and the processes that have worked on it one after the other."""

    def __init__(self, demo: Path, directory: Path, *flags: str) -> None:
        self.directory = directory
        self.checkpoints = directory / "checkpoints" / "_actor"
        self.command = [
            sys.executable, "-m", "openrlhf_math", "grpo", "--actor.model_name_or_path", str(demo / "sft" / "model"),
            "--data.prompt_dataset", str(demo / "world" / "heldout.jsonl"), "--math.run_dir", str(directory),
            "--math.instruction", "", "--math.answer_style", "think", "--train.seed", "5", "--actor.adam.lr", "1e-3",
            "--rollout.batch_size", "8", "--rollout.n_samples_per_prompt", "4", "--data.max_len", "256",
            "--rollout.max_new_tokens", "64", "--ckpt.save_steps", "1", "--train.full_determinism_enable", *flags,
        ]  # fmt: skip
        self.log = directory.with_suffix(".log")

    def start(self, *more: str) -> subprocess.Popen:
        with self.log.open("a") as log:
            return subprocess.Popen(
                [*self.command, *more], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def finish(self, *more: str) -> None:
        assert self.start(*more).wait(timeout=600) == 0, self.log.read_text()[-3000:]

    def steps(self) -> list[int]:
        return [record["step"] for record in records(self.directory / "metrics.jsonl")]

    def tags(self) -> list[str]:
        return sorted((path.name for path in self.checkpoints.glob("global_step*")), key=lambda tag: int(tag[11:]))


def records(path: Path) -> list[dict]:
    """Whole lines, without what is measured."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    return [{name: value for name, value in each.items() if not name.startswith(MEASURED)} for each in whole]


def end(run: Run, process: subprocess.Popen, when, number: int = signal.SIGKILL, group: bool = True) -> int:
    """Wait until `when()` and send the signal. Returns the exit code."""
    limit = time.time() + 300
    try:
        while not when():
            assert process.poll() is None, f"it had ended before: {run.log.read_text()[-3000:]}"
            assert time.time() < limit, "it took too long"
            time.sleep(0.005)
        (os.killpg if group else os.kill)(process.pid, number)
        return process.wait(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def stop(run: Run, number: int, when, group: bool) -> None:
    """Let a run continue and end it by a signal for which it saves.

    group: whether all its processes get it, as they do Ctrl-C in a terminal.
    """
    code = end(run, run.start("--ckpt.load_enable"), when, number, group)
    last = run.log.read_text().strip().splitlines()[-1]
    assert code == 128 + number, last
    step = run.steps()[-1]
    assert f"stopped by {signal.Signals(number).name} after step {step}, which is saved; resume with: openrlhf" in last
    assert run.tags()[-1] == f"global_step{step}", "not even the last step is lost"


def after(run: Run, steps: int, delay: float = 0.0):
    """A condition: so many steps more than now, and so many seconds then."""
    wanted = len(run.steps()) + steps
    return delayed(lambda: len(run.steps()) >= wanted, delay)


def delayed(condition, delay: float):
    """A condition: so many seconds after another came true."""
    reached = []

    def later() -> bool:
        if not reached and condition():
            reached.append(time.time())
        return bool(reached) and time.time() >= reached[0] + delay

    return later


def in_the_middle_of_saving(run: Run, steps: int):
    """A condition: a checkpoint after so many steps more is half written."""
    done = after(run, steps)
    return lambda: done() and any((run.checkpoints / ".unfinished").glob("*/*.pt"))


def assert_equal(one: Path, other: Path) -> None:
    for name in ("metrics.jsonl", "problems.jsonl", "eval.jsonl"):
        for left, right in zip(records(one / name), records(other / name), strict=True):
            assert left == right, name
    for folder in ("rollouts", "eval_rollouts"):
        files = [{path.name: parquet.read_table(path) for path in (run / folder).glob("*")} for run in (one, other)]
        assert files[0] == files[1] and (files[0] or folder != "rollouts"), folder
    weights, others = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    assert weights.keys() == others.keys()
    assert all((weights[name] == others[name]).all() for name in weights)


def shown_by_tensorboard(run_dir: Path, tag: str) -> list[int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (run_dir / "tensorboard").iterdir()
    return [event.step for event in EventAccumulator(str(folder)).Reload().Scalars(tag)]


def flip_a_bit(checkpoint: Path) -> None:
    path = next(checkpoint.glob("*_optim_states.pt"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def few_problems(demo: Path, path: Path) -> Path:
    path.write_text("".join((demo / "world" / "train.jsonl").read_text().splitlines(keepends=True)[:12]))
    return path


def test_run_with_every_fault_equals_an_undisturbed_run(demo, tmp_path):
    flags = (*EVERYTHING, "--eval.dataset", str(few_problems(demo, tmp_path / "eval.jsonl")))
    whole, run = Run(demo, tmp_path / "whole", *flags), Run(demo, tmp_path / "disturbed", *flags)
    whole.finish()
    steps = whole.steps()
    assert len(steps) >= 5 and steps == list(range(1, len(steps) + 1))
    taught = [
        (record["zero_advantage_rate"], record["grad_norm"]) for record in records(whole.directory / "metrics.jsonl")
    ]
    assert all(idle < 0.5 and norm > 0 for idle, norm in taught), "every group that is trained teaches"

    chance, resume = random.Random(8), "--ckpt.load_enable"
    end(run, run.start(), after(run, 1, chance.uniform(0, 0.5)))
    assert run.start(resume, "--train.seed", "6").wait(timeout=120) == 2
    assert "began with --train.seed 5, not 6" in run.log.read_text()
    stop(run, signal.SIGTERM, after(run, 1, chance.uniform(0, 0.5)), group=False)

    before, newest = run.tags()[-2:]
    flip_a_bit(run.checkpoints / newest)
    refused = f"checkpoint {newest} is refused"
    end(run, run.start(resume), delayed(lambda: refused in run.log.read_text(), chance.uniform(0, 10)))  # as it starts
    assert f"resuming after step {before[11:]}, from {before}" in run.log.read_text()

    end(run, run.start(resume), in_the_middle_of_saving(run, 1))
    stop(run, signal.SIGINT, after(run, 1), group=True)
    run.finish(resume)
    assert_equal(whole.directory, run.directory)
    for tag in ("train/reward", "train/grad_norm"):
        assert shown_by_tensorboard(run.directory, tag) == steps


def test_zero_3_with_a_teacher_resumes_within_and_between_epochs(demo, tmp_path):
    flags = (*TWO_RANKS, "--math.teacher", str(demo / "grpo" / "model"))
    whole, run = Run(demo, tmp_path / "whole", *flags), Run(demo, tmp_path / "killed", *flags)
    whole.finish()
    assert whole.steps() == list(range(1, 7))
    problems = [set(record["problems"]) for record in records(whole.directory / "problems.jsonl")]
    assert len(set().union(*problems[:3])) == 24, "an episode has every problem"
    assert all(record["teacher/reverse_kl"] != 0 for record in records(whole.directory / "metrics.jsonl"))

    again = Run(demo, tmp_path / "again", *flags, "--math.replay", str(whole.directory / "rollouts"))
    again.finish()  # the same steps without an engine
    weights, others = (load_file(one.directory / "model" / "model.safetensors") for one in (whole, again))
    assert again.steps() == whole.steps() and all((weights[name] == others[name]).all() for name in weights)

    end(run, run.start(), delayed(run.tags, 0.5))
    assert len(list((run.checkpoints / run.tags()[-1]).glob("random_state_rank*.pt"))) == 2
    end(run, run.start("--ckpt.load_enable"), after(run, 2))  # around the end of the first episode
    run.finish("--ckpt.load_enable")
    assert_equal(whole.directory, run.directory)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 60 MB, of which a checkpoint takes 12."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = shutil.which("mount")
    if not mount or subprocess.run([mount, "-t", "tmpfs", "-o", "size=60m", "tmpfs", path]).returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield path
    subprocess.run(["umount", path], check=True)


def test_full_disk_ends_the_run_and_keeps_checkpoints(demo, small_disk, tmp_path):
    flags = ("--data.max_samples", "32", "--ckpt.path", str(small_disk / "checkpoints"), "--ckpt.max_num", "2")
    run = Run(demo, tmp_path / "run", *flags)
    run.checkpoints = small_disk / "checkpoints" / "_actor"
    process = run.start()
    while process.poll() is None and not run.tags():
        time.sleep(0.005)
    room = shutil.disk_usage(small_disk).free - 4_000_000
    (small_disk / "filler").write_bytes(bytes(max(0, room)))
    assert process.wait(timeout=120) == 1
    said = run.log.read_text().strip().splitlines()[-1]
    assert "could not be written to" in said and "the disk is full" in said
    assert "make room, then: openrlhf-math grpo" in said
    assert not (run.checkpoints / ".unfinished").exists()

    (small_disk / "filler").unlink()
    run.finish("--ckpt.load_enable")
    assert "is refused" not in run.log.read_text()
    assert run.steps() == [1, 2, 3, 4]
