"""The experiments' scripts for GPUs: their commands are ours, and accept what they are given."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import written_commands

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = {
    "experiments_qwen2.5_1.5b.sh": "devices: 8 (cuda)",
    "experiments_r1_distill_7b.sh": "devices: 8 (cuda)",
    "experiments_qwen2.5_32b.sh": "devices: 32 (cuda)",
}


def dry_run(script: str, experiment: str, folder: Path, **variables: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "SEEDS": "0"} | variables
    result = subprocess.run(
        [EXAMPLES / script, experiment, "--dry-run"], capture_output=True, text=True, cwd=folder, env=environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_positive_kl_coefficient_needs_a_reference_model(script, tmp_path):
    result = dry_run(script, "kl", tmp_path, COEFFICIENTS="0.01")
    assert SCRIPTS[script] in result and "reference model: yes" in result
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("experiment", "commands"),
    [
        ("kl", ["eval", "eval", "report"]),
        ("efficiency", ["eval", "eval", *["experiments"] * 6, "eval", "report"]),
        ("rerank", ["solve", "vote"]),
    ],
)
def test_commands_after_a_finished_run_are_valid(script, experiment, commands, tmp_path):
    for coefficient in ("0", "0.1"):
        run = tmp_path / "runs" / f"kl_{coefficient}_seed_0"
        run.mkdir(parents=True)
        (run / "done").touch()
    result = dry_run(script, experiment, tmp_path, RUNS="runs", COEFFICIENTS="0 0.1")
    lines = [shlex.split(line)[3:] for line in result.splitlines() if line.startswith("would run: openrlhf-math")]
    assert [words[0] for words in lines] == commands
    for words in lines:
        written_commands.check(words)
