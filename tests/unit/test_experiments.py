"""The command `experiments`: its stages are done once, what a killed one resumes from, and sentences for bad input."""

import json
import subprocess
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet
from recorded_runs import evaluation, grpo_run, write_lines

from openrlhf_math.cli import experiment_distillation, main, stages
from openrlhf_math.cli.stages import JOURNAL, Stages
from openrlhf_math.errors import UserError
from openrlhf_math.experiments.settings import Settings

# --- stages that are done once


@pytest.fixture
def run_dir(tmp_path) -> Path:
    return tmp_path / "runs"


def noted(calls: list):
    """Work that writes a file, and notes where it was called."""

    def work(folder: Path) -> None:
        calls.append(folder.name)
        folder.mkdir(parents=True)
        (folder / "made").write_text("whole")

    return work


def test_finished_stage_is_not_repeated(run_dir):
    calls = []
    for _ in range(2):
        one = Stages(run_dir)
        folder = one.once("seed_0/first", noted(calls))
        one.close()
        assert (folder / "made").read_text() == "whole"
    assert calls == ["first"]


def test_partial_stage_is_removed_and_repeated(run_dir):
    def killed(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "torn").write_text("half")
        raise KeyboardInterrupt

    calls = []
    one = Stages(run_dir)
    one.once("seed_0/first", noted(calls))
    with pytest.raises(KeyboardInterrupt):
        one.once("seed_0/second", killed)
    one.close()
    other = Stages(run_dir)
    other.once("seed_0/first", noted(calls))
    folder = other.once("seed_0/second", noted(calls))
    other.close()
    assert calls == ["first", "second"]
    assert [path.name for path in folder.iterdir()] == ["made"]


def test_earlier_stages_keep_commands_and_seconds(run_dir, monkeypatch):
    monkeypatch.setattr(stages.subprocess, "run", lambda *args, **more: subprocess.CompletedProcess(args, 0, ""))
    for _ in range(2):
        one = Stages(run_dir)
        one.once("first", lambda folder: (folder.mkdir(), stages.command("eval", "--seed", 3)))
        one.once("second", lambda folder: (folder.mkdir(), stages.command("solve")))
        one.close()
        assert one.commands == [["eval", "--seed", "3"], ["solve"]]


def test_concurrent_experiments_in_one_directory_are_refused(run_dir):
    one = Stages(run_dir)
    with pytest.raises(UserError, match="--run-dir .*another process writes there"):
        Stages(run_dir)
    one.close()


def test_foreign_directory_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="something other than experiments"):
        Stages(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_stage_with_a_missing_folder_is_reported(run_dir):
    one = Stages(run_dir)
    (one.once("first", noted([])) / "made").unlink()
    (run_dir / "first").rmdir()
    with pytest.raises(UserError, match="first was done, but its folder is gone"):
        one.once("first", noted([]))
    one.close()


# --- whole experiments over recorded stages


def write_traces(folder: Path) -> None:
    (folder / "dataset" / "data").mkdir(parents=True)
    traces = [{"problem": f"{row}+1?", "response": "r", "attempt": 0} for row in (1, 2)]
    parquet.write_table(pyarrow.Table.from_pylist(traces), folder / "dataset" / "data" / "train.parquet")


@pytest.fixture
def recorded(monkeypatch):
    """Our commands leave small recorded results. Gives the names of those that ran."""
    ran = []

    def of(words: list[str], flag: str) -> Path:
        return Path(words[words.index(flag) + 1])

    def run(words, **more):
        name = words[3]
        ran.append(name)
        if name == "grpo":
            path = of(words, "--math.run_dir")
            grpo_run(path, steps=6, **({"teacher/reverse_kl": 0.1} if "--math.teacher" in words else {}))
            evaluated = {"eval_num_samples": 8}
            rows = [evaluated | {"step": step, "eval_default_pass1": 0.1 * step} for step in (2, 4, 6)]
            write_lines(path / "eval.jsonl", rows)
        elif name == "eval":
            evaluation(of(words, "--output"), [True, False, False])
        elif name == "sft":
            of(words, "--math.run_dir").mkdir(parents=True, exist_ok=True)
            data = of(words, "--data.dataset")
            assert not data.is_file() or data.read_text()  # the command refuses an empty set
        elif name == "experiments":
            of(words, "--output").write_text(json.dumps({"completions": 6, "tokens": 90, "seconds": 0.5}))
        elif name == "distill":
            folder = of(words, "--output")
            write_lines(folder / "verdicts.jsonl", [{"row": row, "attempt": 0, "tokens": 9} for row in (1, 2)])
            write_traces(folder)
        elif name == "solve":
            tried = [f"<think>\n1+1={n}.\n</think>\n\nThe answer is \\boxed{{{n}}}." for n in (2, 3)]
            row = {"problem": "Tom has 1 books. Tom gets 1. How many books?", "gold": "2", "responses": tried}
            write_lines(of(words, "--output"), [row | {"scores": [[0.9, 0.9], [0.8, 0.9]], "tokens": [9, 9]}] * 3)
        return subprocess.CompletedProcess(words, 0, "")

    monkeypatch.setattr(stages.subprocess, "run", run)

    def taught(titled, folder, seed, flags):
        write_lines(folder / "world" / "train.jsonl", [{"problem": f"{row}+1?"} for row in (1, 2)])
        write_traces(folder / "traces")
        (folder / "problems" / "data").mkdir(parents=True)
        curated = [{"problem": f"{row}+3?", "answer": str(row + 3)} for row in (1, 2)]
        parquet.write_table(pyarrow.Table.from_pylist(curated), folder / "problems" / "data" / "train.parquet")

    monkeypatch.setattr(experiment_distillation, "teach_student", taught)
    return ran


@pytest.mark.parametrize(
    ("name", "flags", "commands"),
    [
        ("kl", ("--coefficients", "0", "0.01"), ["eval", "grpo", "eval", "grpo", "eval"] * 2),
        ("efficiency", ("--repeats", "2"), ["grpo", "eval", "eval", *["experiments"] * 4] * 2),
        ("curriculum", (), ["grpo"] * 3 * 2),
        ("rerank", ("--attempts", "2"), ["tiny-world", "sft", "sft", "grpo", "solve"] * 2),
        ("mismatch", ("--noise", "0.3"), ["eval", *["grpo", "eval"] * 3] * 2),
        ("tool", (), ["tiny-world", "sft", "grpo", "grpo"] * 2),
        ("teacher", (), ["tiny-world", "sft", "eval", "eval", *["grpo", "eval"] * 3, "distill", "sft", "eval"] * 2),
    ],
)
def test_experiment_runs_its_stages_once(recorded, run_dir, capsys, name, flags, commands):
    command = ["experiments", name, "--run-dir", str(run_dir), "--seeds", "2", "--steps", "6", *flags]
    for _ in range(2):
        assert main(command) == 0
        assert recorded == commands
    assert "2 seeds" in capsys.readouterr().out
    lines = (run_dir / name / "commands.txt").read_text().splitlines()
    assert lines[1].startswith(f"openrlhf-math experiments {name} --run-dir {run_dir} --seeds 2 --steps 6")
    assert len(lines) == 2 + len(commands)


def test_experiments_in_one_directory_share_students_and_runs(recorded, run_dir):
    same = ("--run-dir", str(run_dir), "--seeds", "1", "--steps", "6")
    assert main(["experiments", "kl", *same, "--coefficients", "0"]) == 0
    del recorded[:]
    assert main(["experiments", "efficiency", *same, "--repeats", "1"]) == 0
    assert recorded == ["experiments", "experiments"], "only the clock is missing"


def test_only_coefficients_above_0_have_a_reference_model(recorded, run_dir):
    assert main(["experiments", "kl", "--run-dir", str(run_dir), "--quick"]) == 0
    lines = (run_dir / "kl" / "commands.txt").read_text().splitlines()
    without, with_reference = (line for line in lines if line.startswith("openrlhf-math grpo"))
    assert "--algo.kl.init_coef 0" in without and "use_loss" not in without
    assert "--algo.kl.init_coef 0.1 --algo.kl.use_loss --algo.kl.estimator k3" in with_reference


def test_failed_stage_is_named_and_retried(run_dir, monkeypatch, capsys):
    def fail(words, **more):
        raise subprocess.CalledProcessError(1, words)

    monkeypatch.setattr(stages.subprocess, "run", fail)
    for _ in range(2):
        assert main(["experiments", "kl", "--run-dir", str(run_dir), "--quick"]) == 1
        assert "'tiny-world' failed" in capsys.readouterr().err
    assert (run_dir / JOURNAL).read_text() == ""


def test_only_correction_runs_have_inexact_engines(recorded, run_dir):
    assert main(["experiments", "mismatch", "--run-dir", str(run_dir), "--quick"]) == 0
    lines = (run_dir / "mismatch" / "commands.txt").read_text().splitlines()
    exact, *others = (line for line in lines if line.startswith("openrlhf-math grpo"))
    assert "engine_noise" not in exact and all("--math.engine_noise 0.2" in line for line in others)
    assert [line.rsplit(maxsplit=1)[1] for line in others] == ["off", "tis"]


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("kl", "--seeds", "0"), "--seeds 0: give 1 or more"),
        (("kl", "--steps", "126"), "--steps 126: give 1 to 125"),
        (("kl", "--coefficients", "0", "-1"), "--coefficients -1: give numbers of 0 or more"),
        (("kl", "--coefficients", "nan"), "--coefficients nan: give numbers of 0 or more"),
        (("kl", "--coefficients", "0.1", "0", "0.10"), "--coefficients has 0.1 twice; give each once"),
        (("efficiency", "--repeats", "0"), "--repeats 0: give 1 or more"),
        (("mismatch", "--noise", "0"), "--noise 0: give a finite number above 0"),
        (("mismatch", "--noise", "nan"), "--noise nan: give a finite number above 0"),
        (("rerank", "--attempts", "1"), "--attempts 1: give 2 or more"),
    ],
)
def test_bad_settings_are_refused_before_start(run_dir, capsys, arguments, sentence):
    assert main(["experiments", *arguments, "--run-dir", str(run_dir)]) == 2
    assert sentence in capsys.readouterr().err
    assert not run_dir.exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"--samples": "4"}, "greedy decoding gives the same completion every time"),
        ({"--output": "nowhere/speed.json"}, "there is no directory nowhere"),
        ({"--seed": "-1"}, "--seed -1: give 0 or more"),
        ({"--model": "nowhere"}, "--model nowhere: there is no such directory"),
    ],
)
def test_bad_flags_of_speed(tmp_path, capsys, flags, sentence):
    model, problems = tmp_path / "model", tmp_path / "problems.jsonl"
    model.mkdir()
    for name in ("config.json", "tokenizer_config.json"):
        (model / name).write_text("{}")
    problems.write_text('{"problem": "1+1?", "answer": "2"}\n')
    good = {"--model": str(model), "--benchmark": str(problems), "--output": str(tmp_path / "speed.json")}
    words = [word for pair in (good | flags).items() for word in pair]
    assert main(["experiments", "speed", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_settings_are_checked_where_they_are_made():
    with pytest.raises(UserError, match="--steps 0"):
        Settings(run_dir=Path("runs"), seeds=1, steps=0)
