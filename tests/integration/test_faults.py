"""What dies, hangs or is not a number in `openrlhf-math grpo`, on the real stack: see docs/faults.md."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from openrlhf_math.rewards import pool

HERE = Path(__file__).parent
GROUP, PROMPTS = 4, 8
PATIENCE = 400  # seconds a busy machine may take for what takes 20 s


class Run:
    """A run in a separate process. Its processes are found by the names Ray gives them."""

    def __init__(self, demo: Path, folder: Path, *more: str, steps: int = 4, **faults) -> None:
        self.run_dir, self.marks = folder / "run", folder / "marks"
        self.marks.touch()
        command = [
            sys.executable, "-m", "openrlhf_math", "grpo", "--actor.model_name_or_path", str(demo / "sft" / "model"),
            "--data.prompt_dataset", str(demo / "world" / "train.jsonl"), "--data.max_samples", str(steps * PROMPTS),
            "--math.run_dir", str(self.run_dir), "--math.instruction", "", "--math.answer_style", "think",
            "--rollout.batch_size", str(PROMPTS), "--rollout.n_samples_per_prompt", str(GROUP),
            "--data.max_len", "256", "--rollout.max_new_tokens", "64", "--ckpt.save_steps", "-1", *more,
        ]  # fmt: skip
        if faults:
            command += ["--train.agent_func_path", str(HERE / "fault_agent.py")]
        environment = {
            "FAULTS": json.dumps(faults | {"marks": str(self.marks)}),
            "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        }
        self.errors = (folder / "stderr").open("w+")
        self.process = subprocess.Popen(
            command, stdout=self.errors, stderr=self.errors, env={**os.environ, **environment}, text=True
        )
        self.family: dict[int, psutil.Process] = {}

    def steps(self) -> list[dict]:
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in (self.run_dir / "metrics.jsonl").read_text().splitlines()]
        return []

    def graded(self) -> int:
        return len(self.marks.read_text().splitlines())

    def until(self, condition) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, "it does not come so far"
            time.sleep(0.02)

    def until_mid_rollout(self, step: int) -> None:
        """Until completions of the rollout after `step` steps are being graded."""
        self.until(lambda: len(self.steps()) >= step)
        before = self.graded()
        self.until(lambda: self.graded() > before)

    def find(self, *names: str) -> psutil.Process:
        """Its youngest process with all these words in its name or command line."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            self.family[process.pid] = process
        found = [process for process in self.family.values() if all(name in words(process) for name in names)]
        assert found, f"no {names} among {[words(process) for process in self.family.values()]}"
        return max(found, key=psutil.Process.create_time)

    def engine(self) -> psutil.Process:
        """vLLM's process, forked from the rollout actor: of its children the one that holds the model."""
        return max(self.find("ray::MathRollou").children(), key=lambda process: process.memory_info().rss)

    def ends(self, seconds: float) -> int:
        """Its exit code, within so many seconds. Nothing of it lives on."""
        code = self.process.wait(seconds)
        ours = [each for each in self.family.values() if "/ray/" not in words(each) and "Agent" not in words(each)]
        _, alive = psutil.wait_procs(ours, timeout=30)
        assert not alive, f"these live on: {[words(process) for process in alive]}"
        return code

    def said(self) -> str:
        self.errors.seek(0)
        return self.errors.read()[-6000:]

    def says_how_to_go_on(self) -> bool:
        last = self.said().strip().splitlines()[-1]
        return last.startswith("resume with: openrlhf-math grpo --actor") and last.endswith("--ckpt.load_enable")


def words(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return f"{process.name()} {' '.join(process.cmdline())}"
    return ""


@pytest.fixture
def start(demo, tmp_path):
    runs = []

    def start(*more: str, **faults) -> Run:
        runs.append(Run(demo, tmp_path, *more, **faults))
        return runs[-1]

    yield start
    for run in runs:
        with contextlib.suppress(psutil.NoSuchProcess):
            run.find("")
        for process in [run.process, *run.family.values()]:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()
        run.errors.close()


def test_dead_engines_and_grading_workers_are_replaced_in_time(start):
    learns = ("--actor.adam.lr", "1e-3")  # old weights would show in the gap between trainer and engine
    run = start("--math.engine_restarts", "2", *learns, steps=5, seconds=2.0)
    run.until_mid_rollout(1)
    run.find("ray::MathRollou").kill()
    run.until_mid_rollout(2)
    worker = next(child for child in run.find("ray::MathRollou").children() if pool.MODULE in words(child))
    worker.kill()
    run.until_mid_rollout(3)
    run.engine().kill()
    run.until_mid_rollout(4)
    records = run.steps()
    assert [record["engine_restarts"] for record in records] == [0, 1, 0, 1]
    for record in records:
        assert record["rollout/num_samples"] == PROMPTS * GROUP and record["ungraded_rate"] == 0
        assert record["logprob_gap"] < 0.01, "the engine has the trainer's weights"
    run.find("ray::MathRollou").kill()
    assert run.ends(120) == 1
    assert "--math.engine_restarts 2" in run.said() and run.says_how_to_go_on()
    log = (run.run_dir / "grpo.log").read_text()
    assert "vLLM engine 0 died and was started again: restart 2 of 2" in log


@pytest.mark.slow
def test_engine_that_dies_in_another_call_is_replaced(start):
    """vLLM leaves such a question without an answer; the run would wait for one."""
    run = start("--actor.adam.lr", "1e-3", steps=3, seconds=2.0)
    run.until(lambda: run.graded() >= 2 * PROMPTS * GROUP)  # all is generated: next it is asked what memory it takes
    engine = run.engine()
    engine.suspend()
    time.sleep(8)
    assert len(run.steps()) == 1
    engine.kill()
    assert run.ends(PATIENCE) == 0
    assert [record["engine_restarts"] for record in run.steps()] == [0, 1, 0]
    assert all(record["logprob_gap"] < 0.01 for record in run.steps()), "the engine has the trainer's weights"


@pytest.mark.slow
def test_policy_worker_death_in_a_rollout_ends_the_run_by_name(start):
    run = start(seconds=20.0)
    run.until_mid_rollout(0)
    run.find("Policy").kill()
    assert run.ends(60) == 1
    assert "class_name: PolicyModelActor" in run.said() and run.says_how_to_go_on()


@pytest.mark.slow
def test_policy_worker_death_in_training_ends_the_run_by_name(start):
    run = start("--train.max_epochs", "200")
    run.until(lambda: "Sample: " in log_of(run))  # the last word before the gradient steps
    time.sleep(1)
    assert not run.steps()
    run.find("Policy").kill()
    assert run.ends(60) == 1
    assert "class_name: PolicyModelActor" in run.said() and run.says_how_to_go_on()


@pytest.mark.slow
def test_no_process_survives_a_killed_controller(start):
    run = start(seconds=2.0)
    run.until_mid_rollout(1)
    run.find("")
    run.process.kill()
    assert run.ends(30) == -signal.SIGKILL
    assert "the run was killed" in run.said() and run.says_how_to_go_on()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "name"), [("gcs_server", "Ray's head (gcs_server at"), ("raylet/raylet", "Ray on this machine")]
)
def test_lost_ray_head_ends_the_run_by_name(start, process, name):
    run = start(seconds=2.0)
    run.until_mid_rollout(1)
    run.find(process).kill()
    assert run.ends(120) == 1
    assert name in run.said() and run.says_how_to_go_on()


@pytest.mark.slow
def test_hanging_engine_times_out_its_phase(start):
    run = start("--math.phase_timeout", "rollout=20,train=20,sync=20", seconds=2.0)
    run.until_mid_rollout(1)
    run.engine().send_signal(signal.SIGSTOP)
    assert run.ends(180) == 1
    # What it had generated may still be graded, and trained on: then it does not sleep, or not take the weights.
    assert re.search("phase (rollout|train|sync): not done within 20 s", run.said()) and run.says_how_to_go_on()
    stacks = (run.run_dir / "stacks.txt").read_text()
    assert "the controller:" in stacks and "grpo/trainer.py" in stacks and "MathPolicyA" in stacks


@pytest.mark.slow
def test_sleeping_agent_times_out_its_phase(start):
    run = start("--math.phase_timeout", "rollout=5", seconds=1000.0)
    assert run.process.wait(PATIENCE) == 1
    assert "it waited for the completions of 8 prompts from 1 vLLM engines" in run.said() and run.says_how_to_go_on()


@pytest.mark.slow
def test_failing_reward_ends_the_run_with_its_name_and_error(start):
    run = start(raises="all")
    assert run.process.wait(PATIENCE) == 1
    assert "on all 32 completions of a batch: AgentExecutor.grade raised LookupError" in run.said()
    first, *others = (run.run_dir / "ungraded.jsonl").read_text().splitlines()
    assert "raise LookupError" in json.loads(first)["traceback"] and len(others) == 31
    assert not any("traceback" in json.loads(line) for line in others)


@pytest.mark.slow
def test_bad_steps_keep_weights_and_bad_items_keep_the_run(start):
    each = ("--ckpt.save_steps", "1", "--ckpt.save_hf", "--ckpt.max_num", "9", "--actor.adam.lr", "1e-2")
    bad = ("--algo.advantage.estimator", "fault_estimator.sometimes_nan", "--math.max_bad_steps", "2")
    run = start(*each, *bad, "--math.max_logprob_gap", "9", steps=6, raises="one")
    assert run.process.wait(PATIENCE) == 1
    records = run.steps()
    assert [record["skipped_steps"] for record in records] == [0, 1, 0, 1, 1]
    assert [record["grad_norm"] is None for record in records] == [False, True, False, True, True]

    saved = [run.run_dir / "checkpoints" / f"global_step{step}_hf" / "model.safetensors" for step in (1, 2, 3)]
    first, second, third = map(load_file, saved)
    assert all((second[name] == first[name]).all() for name in first)
    assert any((third[name] != first[name]).any() for name in first)

    path = run.run_dir / "bad_batch_step5.safetensors"
    assert "step 5: the loss or the gradient was NaN or infinite 2 times in a row" in run.said()
    assert str(path) in run.said() and run.says_how_to_go_on()
    with safe_open(path, "pt") as file:
        assert file.get_tensor("advantages").isnan().any() and len(json.loads(file.metadata()["prompts"])) == 32

    (ungraded,) = map(json.loads, (run.run_dir / "ungraded.jsonl").read_text().splitlines())
    assert (
        "AgentExecutor.grade raised LookupError" in ungraded["reason"] and "raise LookupError" in ungraded["traceback"]
    )
    assert [record["reward_error_rate"] for record in records] == [1 / 32, 0, 0, 0, 0]
    assert log_of(run).count("raise LookupError") == 1


def log_of(run: Run) -> str:
    with contextlib.suppress(FileNotFoundError):
        return (run.run_dir / "grpo.log").read_text()
    return ""
