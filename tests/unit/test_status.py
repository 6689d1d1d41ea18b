"""`openrlhf-math status`: what a run directory says, whatever became of the run."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from recorded_runs import evaluation, grpo_row, grpo_run, tuning_run, whole_run, write_lines

from openrlhf_math.cli import main
from openrlhf_math.cli.status import duration
from openrlhf_math.errors import UserError
from openrlhf_math.report.status import changes, seconds_a_step, status_of, window
from openrlhf_math.runs.process import FILE, born, read_process, working

COMMAND = "openrlhf-math grpo --math.run_dir runs/x --ckpt.load_enable"

AT_WORK = """
import sys, time
from pathlib import Path
from openrlhf_math.runs.process import working
with working("--math.run_dir", Path(sys.argv[1]), sys.argv[2]) as beat:
    beat({"step": 30}, 80)
    print("at work", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def at_work(tmp_path):
    """A run of 80 steps of which 30 are done, and the process that runs in it."""
    process = subprocess.Popen(
        [sys.executable, "-c", AT_WORK, grpo_run(tmp_path / "run"), COMMAND],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "at work\n"
    yield tmp_path / "run", process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def change(run, **changed) -> None:
    there = json.loads((run / FILE).read_text())
    (run / FILE).write_text(json.dumps(there | changed))


def test_running_run_reports_its_progress(at_work, capsys):
    status = status_of(at_work[0])
    assert (status.state, status.step, status.steps) == ("running", 30, 80)
    assert status.seconds_a_step == pytest.approx(2.0) and status.eta_seconds == pytest.approx(100.0)
    assert status.go_on == "" and not status.silent
    assert main(["status", str(at_work[0])]) == 0
    assert "step 30 of 80, 2 s a step, 1 min 40 s left, last step 0 s ago" in capsys.readouterr().out


def test_killed_run_reports_the_resume_command(at_work, capsys):
    run, process = at_work
    process.kill()
    process.wait()
    assert status_of(run).state == "killed"
    assert main(["status", str(run)]) == 0
    assert f"resume with: {COMMAND}" in capsys.readouterr().out


def test_zombie_is_not_a_process(at_work):
    run, process = at_work
    os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while born(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.returncode is None  # nobody has waited for it
    assert status_of(run).state == "killed"


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"born": "another-boot 1"}, "killed"),  # the number is another process's by now
        ({"host": "elsewhere"}, "running elsewhere"),
        ({"host": "elsewhere", "state": "failed"}, "failed"),
    ],
)
def test_state_of_a_file_that_says_running(at_work, changed, state):
    change(at_work[0], **changed)
    assert status_of(at_work[0]).state == state


@pytest.mark.parametrize(("ago", "silent"), [(100, False), (130, True)])
def test_run_without_a_step_for_long_is_suspicious(at_work, ago, silent, capsys):
    change(at_work[0], step_at=time.time() - ago)
    main(["status", str(at_work[0])])
    assert ("it may hang" in capsys.readouterr().out) == silent


def test_run_directory_has_one_process(at_work):
    refusal = rf"--math.run_dir .*: process {at_work[1].pid} runs in it"
    with pytest.raises(UserError, match=refusal), working("--math.run_dir", at_work[0], COMMAND):
        raise AssertionError("it was let in")
    assert read_process(at_work[0]).pid == at_work[1].pid


@pytest.mark.parametrize(
    ("error", "state", "cause"),
    [
        (RuntimeError("step 4: the loss is nan\nand a traceback"), "failed", "step 4: the loss is nan"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
        (SystemExit(3), "failed", "3"),
        (None, "finished", ""),
    ],
)
def test_end_state_is_reported(tmp_path, error, state, cause):
    run = grpo_run(tmp_path / "run")
    try:
        with working("--math.run_dir", run, COMMAND):
            if error:
                raise error
    except BaseException as raised:
        assert raised is error
    status = status_of(run)
    assert (status.state, status.cause) == (state, cause)
    assert status.go_on == ("" if state == "finished" else COMMAND)


def test_truncated_line_and_corrupt_file_are_tolerated(tmp_path, capsys):
    run = grpo_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "rew')
    (run / FILE).write_text('{"state": "runn')
    status = status_of(run)
    assert (status.step, status.state, status.unreadable) == (30, "unknown", 0)
    with (run / "metrics.jsonl").open("a") as file:
        file.write("\n\x1b[31m\n")
    assert main(["status", str(run)]) == 0
    assert "2 lines of metrics.jsonl cannot be read" in capsys.readouterr().out


def test_first_and_last_steps_are_compared():
    rows = [grpo_row(step, reward=float(step), accuracy=None) for step in range(1, 31)]
    result = changes(rows)
    assert (result["reward"].first, result["reward"].last) == (5.5, 25.5)
    assert "accuracy" not in result and "loss" not in result
    assert [window(steps) for steps in (0, 1, 2, 5, 19, 20, 300)] == [1, 1, 1, 2, 9, 10, 10]
    assert changes([]) == {}


@pytest.mark.parametrize(
    ("clock", "pace"),
    [([], None), ([5.0], None), ([5.0, 7.0, 9.0], 2.0), ([50.0, 52.0, 20.0, 22.0], 2.0), ([1.0, None, 3.0], 2.0)],
)
def test_seconds_per_step(clock, pace):
    assert seconds_a_step([{"step": n, "seconds_since_start": at} for n, at in enumerate(clock)]) == pace


@pytest.mark.parametrize(
    ("seconds", "result"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (18_600, "5 h 10 min"), (183_600, "2 d 3 h")],
)
def test_durations(seconds, result):
    assert duration(seconds) == result


def test_checkpoint_and_evaluation(tmp_path, capsys):
    run = grpo_run(tmp_path / "run")
    for tag in ("global_step9", "global_step10", "best_global_step2", "refused_global_step20"):
        (run / "checkpoints" / "_actor" / tag).mkdir(parents=True)
    write_lines(run / "eval.jsonl", [{"step": 10, "eval_x_pass1": 0.5}, {"step": 20, "eval_x_pass1": 0.625}])
    main(["status", str(run)])
    result = capsys.readouterr().out
    assert "newest checkpoint: global_step10" in result and "evaluation of step 20: eval_x_pass1 0.625" in result


def test_all_kinds_of_runs_as_json(tmp_path, capsys):
    whole_run(tmp_path / "demo")
    tuning_run(tmp_path / "sft")
    evaluation(tmp_path / "eval", [True, False])
    assert main(["status", *(str(tmp_path / name) for name in ("demo", "sft", "eval")), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(each["kind"], each["step"]) for each in result] == [
        ("fine-tuning", 40), ("evaluation", 0), ("GRPO", 30), ("evaluation", 0), ("fine-tuning", 40), ("evaluation", 0),
    ]  # fmt: skip
    assert result[5]["evaluation"]["pass_at_1"] == 0.5


def test_watching_ends_with_the_run(at_work, capsys):
    run, process = at_work
    process.stdin.close()  # lets it finish
    process.wait()
    assert main(["status", str(run), "--watch", "0.1"]) == 0
    assert "finished" in capsys.readouterr().out


def test_hostile_name_and_cause_are_shown_as_text(tmp_path, capsys):
    run = grpo_run(tmp_path / "[red]\x1b[31mrun")
    with pytest.raises(RuntimeError), working("--math.run_dir", run, COMMAND):
        raise RuntimeError("[bold]\x1b]0;title\x07")
    main(["status", str(run)])
    result = capsys.readouterr().out
    assert "[red]\\x1b[31mrun" in result and "[bold]\\x1b]0;title\\x07" in result and "\x1b" not in result


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["missing"], "RUN missing: there is no such directory"),
        (["."], "RUN .: no run is in it; give a directory that"),
        ([".", "--watch", "0"], "--watch 0.0: give more than 0 seconds"),
        ([".", "--watch", "--json"], "--json is printed once; leave --watch out"),
    ],
)
def test_bad_input_is_one_sentence(flags, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["status", *flags]) == 2
    result = capsys.readouterr().err
    assert sentence in result and len(result.splitlines()) == 1
