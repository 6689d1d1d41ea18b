"""Checks before a run resumes, when it saves, and how it is stopped."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrlhf_math.cli import main
from openrlhf_math.data.problems import Problem
from openrlhf_math.grpo.faults import resume
from openrlhf_math.grpo.faults.resume import check_room, identity, is_free
from openrlhf_math.grpo.faults.stopping import SHARE, SaveSchedule, Stopped, StopSignals, stop_signals
from openrlhf_math.grpo.flags import build_parser
from openrlhf_math.grpo.settings import resolve
from openrlhf_math.runs.process import resume_command
from openrlhf_math.runs.records import append_jsonl, forget_after, keep_until

MINIMAL = ("--actor.model_name_or_path", "some/model-1.5B", "--data.prompt_dataset", "some/data")


def settings(run_dir, *more: str) -> SimpleNamespace:
    return resolve(build_parser("grpo").parse_args([*MINIMAL, "--math.run_dir", str(run_dir), *more]))


# Which run it is


@pytest.mark.parametrize(
    ("name", "free"),
    [
        ("actor.adam.lr", False),
        ("train.seed", False),
        ("rollout.batch_size", False),
        ("actor.num_gpus_per_node", False),
        ("ds.zero_stage", False),
        ("math.curriculum.name", False),
        ("math.rewards.correct_reward", False),
        ("math.instruction", False),
        ("math.rewards.workers", True),
        ("math.completion_limit.last", True),
        ("math.max_logprob_gap", True),
        ("rollout.max_new_tokens", True),
        ("train.num_episodes", True),
        ("train.agent_func_path", True),
        ("ckpt.save_steps", True),
        ("vllm.gpu_memory_utilization", True),
    ],
)
def test_only_settings_that_affect_weights_must_stay(name, free):
    assert is_free(name) == free


def problem(text: str, answer: str = "1") -> Problem:
    return Problem(problem=text, answer=answer, source="s", row=1)


def test_problems_are_known_by_their_text_answers_and_labels():
    same = identity({"a": [problem("x"), problem("y")]}, {})
    assert same == identity({"elsewhere": [problem("x"), problem("y")]}, {})
    assert same["rows"] == 2
    others = [
        identity({"a": [problem("y"), problem("x")]}, {}),
        identity({"a": [problem("x"), problem("y", "2")]}, {}),
        identity({"a": [problem("x"), problem("y")]}, {"a": {1: {"difficulty": 3.0}}}),
    ]
    assert len({each["sha256"] for each in (same, *others)}) == 4


@pytest.fixture
def began(tmp_path):
    """A run directory that was begun and killed before its first checkpoint: its flags, and what is to be resumed."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "tokenizer_config.json").write_text("{}")
    args = settings(tmp_path / "run")
    problems = identity({"a": [problem("x")]}, {})
    args.math.run_dir.mkdir()
    config = json.loads(resume.as_json(args)) | {resume.ROWS: problems}
    (args.math.run_dir / "config.json").write_text(json.dumps(config))
    return args, problems


def test_run_without_a_checkpoint_restarts_and_drops_records(began, capsys):
    args, problems = began
    for name in ("metrics.jsonl", "problems.jsonl", "undecided.jsonl"):  # the last: of the release before
        (args.math.run_dir / name).write_text('{"step": 1, "seconds_since_start": 3}\n')
    args.ckpt.load_enable = True
    resume.take_up(args, problems)
    assert not args.ckpt.load_enable
    assert {path.name: path.read_text() for path in args.math.run_dir.glob("*.jsonl")} == dict.fromkeys(
        ("metrics.jsonl", "problems.jsonl", "undecided.jsonl"), ""
    )
    assert "the run starts from the beginning" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "other", "sentence"),
    [
        (("--actor.adam.lr", "3e-5"), {}, r"began with --actor.adam.lr 1e-06, not 3e-05"),
        (("--train.seed", "7"), {}, r"began with --train.seed 42, not 7"),
        ((), {"sha256": "0"}, r"--data.prompt_dataset some/data gives other rows than the run"),
        (("--train.enable_ema",), {}, r"--train.enable_ema keeps an average"),
    ],
)
def test_another_run_is_refused(began, more, other, sentence):
    args, problems = began
    with pytest.raises(resume.UserError, match=sentence):
        resume.take_up(settings(args.math.run_dir, *more), problems | other)


def test_time_between_a_kill_and_resume_is_excluded(began, monkeypatch):
    args, problems = began
    (args.math.run_dir / "metrics.jsonl").write_text('{"step": 4, "seconds_since_start": 100}\n{"step": 5, "seco')
    monkeypatch.setattr(resume, "settle", lambda *folders: "global_step4")
    started = args.math.started_at
    resume.take_up(args, problems)
    assert args.math.started_at == started - 100


# Room


def test_checkpoints_without_disk_space_are_refused_before_start(tmp_path, monkeypatch):
    monkeypatch.setattr(resume.shutil, "disk_usage", lambda path: SimpleNamespace(free=50 * 2**30))
    with pytest.raises(resume.UserError, match=r"4 checkpoints take 78.2 GiB, there is room for 50;"):
        check_room(
            settings(tmp_path / "run")
        )  # 1.5 billion parameters of 14 bytes, 3 kept, one more while it is written
    check_room(settings(tmp_path / "run", "--ckpt.max_num", "1"))
    check_room(settings(tmp_path / "run", "--ckpt.save_steps", "-1"))


# Records


def test_records_after_the_checkpoint_and_truncated_lines_are_removed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "text": "é"}\n{"step": 3}\n{"step": 4, "re')
    assert keep_until(path, 2) == [{"step": 1}, {"step": 2, "text": "é"}]
    assert path.read_text() == '{"step": 1}\n{"step": 2, "text": "é"}\n'
    assert keep_until(tmp_path / "none.jsonl", 2) == []


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\u2029"])
def test_record_with_a_line_separator_of_unicode_is_kept(tmp_path, mark):
    path, record = tmp_path / "problems.jsonl", {"step": 1, "problem": f"1{mark}2"}
    append_jsonl(path, record)
    earlier = json.dumps(record | {"step": 2}, ensure_ascii=False) + "\n"  # as the release before wrote it
    with path.open("ab") as file:
        file.write(earlier.encode() + b'{"step": 3, "problem": "\xc3')  # torn within a character
    assert keep_until(path, 3) == [record, record | {"step": 2}]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


def test_tensorboard_shows_each_step_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    for life, steps in ((1, range(1, 6)), (2, range(3, 8))):
        with SummaryWriter(str(tmp_path)) as writer:
            if life == 2:
                forget_after(writer, 2)
            for step in steps:
                writer.add_scalar("reward", life, step)
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("reward")
    assert [(event.step, event.value) for event in events] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 2), (7, 2)]


# When to save


def test_given_interval_is_kept():
    schedule = SaveSchedule(3)
    assert [step for step in range(1, 10) if schedule.due(step)] == [3, 6, 9]


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("step", "cost"), [(1.0, 0.1), (60.0, 90.0), (0.5, 0.01)])
def test_default_interval_bounds_the_time_spent_saving(step, cost):
    clock = Clock()
    schedule, saves, done = SaveSchedule(None, clock), [], 200
    for number in range(1, done + 1):
        clock.now += step
        if schedule.due(number):
            clock.now += cost
            schedule.saved(cost)
            saves.append(number)
    assert saves[0] == 1, "the first step shows what it costs"
    assert len(saves) * cost <= SHARE * clock.now + cost
    gaps = [after - before for before, after in zip(saves, saves[1:], strict=False)]
    assert max(gaps) * step <= cost / SHARE + step, "no rarer than that"


# Being stopped


def test_signal_interrupts_but_a_gradient_step_completes():
    with pytest.raises(Stopped, match="stopped by SIGTERM with nothing saved") as stopped, stop_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it continues")
    assert stopped.value.number == signal.SIGTERM
    with pytest.raises(Stopped, match="stopped by SIGINT after step 3, which is saved"), stop_signals() as stop:
        stop.hold()
        os.kill(os.getpid(), signal.SIGINT)
        stop.saved = 3
        stop.release()


def test_second_ctrl_c_exits_and_second_sigterm_is_ignored():
    stop = StopSignals()
    stop.hold()
    stop.receive(signal.SIGTERM)
    stop.receive(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        stop.receive(signal.SIGINT)
    assert stop.number == signal.SIGTERM


def test_previous_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("number", "code", "saved", "verb"),
    [
        (signal.SIGTERM, 143, 12, "resume"),
        (signal.SIGINT, 130, 12, "resume"),
        (signal.SIGINT, 130, None, "start again"),
    ],
)
def test_stopped_run_names_the_resume_command(tmp_path, monkeypatch, capsys, number, code, saved, verb):
    from openrlhf_math.grpo import driver, inputs
    from openrlhf_math.grpo.problems import difficulty
    from openrlhf_math.modeling import model_folder, model_kind

    def stopped(*args, **options):
        raise Stopped(number, saved)

    monkeypatch.setattr(driver, "train", stopped)
    monkeypatch.setattr(model_folder, "check_model", lambda *args: None)
    for check in ("checked_family", "check_positions", "check_engine"):
        monkeypatch.setattr(model_kind, check, lambda *args, **options: None)
    monkeypatch.setattr(inputs, "render_prompts", lambda *args: {"some/data": ["x"]})
    monkeypatch.setattr(inputs, "load_problem_sets", lambda args: {"some/data": [problem("x")]})
    monkeypatch.setattr(difficulty, "read_labels", lambda *args: {})
    command = ["grpo", *MINIMAL, "--math.run_dir", str(tmp_path / "a run"), "--ckpt.save_steps", "-1"]
    monkeypatch.setattr("sys.argv", ["openrlhf-math", *command])
    assert main(command) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"stopped by {number.name}" in said and f"; {verb} with: openrlhf-math grpo" in said
    assert ("after step 12" in said) == bool(saved)
    assert f"--math.run_dir '{tmp_path / 'a run'}' --ckpt.save_steps -1 --ckpt.load_enable" in said


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["grpo", "--a", "b c"], "openrlhf-math grpo --a 'b c' --ckpt.load_enable"),
        (["grpo", "--ckpt.load_enable", "--a", "b"], "openrlhf-math grpo --ckpt.load_enable --a b"),
        (["grpo", "--logger.wandb.key", "s3cret"], "openrlhf-math grpo --logger.wandb.key ... --ckpt.load_enable"),
        (["grpo", "--logger.wandb.key=s3cret"], "openrlhf-math grpo --logger.wandb.key=... --ckpt.load_enable"),
    ],
)
def test_resume_command_is_valid_shell_without_secrets(arguments, command):
    assert resume_command(arguments) == command


# Seeds and random state


def test_derived_seed_depends_only_on_the_full_name():
    from openrlhf_math.seeds import derived_seed

    assert derived_seed("1 2 x") == derived_seed("1 2 x") == 1050837920
    seeds = {derived_seed(name) for name in ("1 2 x", "2 2 x", "1 3 x", "1 2 y", "12 x", "1\0002 x", "\ud800")}
    assert len(seeds) == 7 and all(0 <= seed < 2**31 for seed in seeds)


def test_random_state_is_saved_without_executable_code(tmp_path: Path):
    import random

    import numpy as np
    import torch

    from openrlhf_math.checkpoints.state import load_plain, random_state, restore_random_state

    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(()).item()]

    random.gauss(0, 1), np.random.randn()  # each keeps a second number back
    torch.save(random_state(), tmp_path / "state.pt")
    expected = [draw() for _ in range(3)]
    restore_random_state(load_plain(tmp_path / "state.pt"))
    assert [draw() for _ in range(3)] == expected


class Code:
    def __reduce__(self):
        return os.system, ("touch /should/not/be/run",)


def test_file_with_executable_code_is_refused(tmp_path):
    import pickle

    import torch

    from openrlhf_math.checkpoints.state import load_plain

    torch.save({"module": Code()}, tmp_path / "mp_rank_00_model_states.pt")
    with pytest.raises(pickle.UnpicklingError, match="Unsupported global|system"):
        load_plain(tmp_path / "mp_rank_00_model_states.pt")
