"""The script that proves a GPU, tried on a CPU with small sizes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "gpu" / "run.sh"


def run(out: Path, *flags: str) -> tuple[int, dict]:
    command = [SCRIPT, out, "--device", "cpu", "--small", *flags]
    done = subprocess.run(command, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True)
    return done.returncode, json.loads((out / "proof.json").read_text())


def test_families_are_compared_on_the_device(tmp_path):
    code, proof = run(tmp_path / "out", "--only", "1")
    (part,) = proof["parts"]
    assert (code, part["failed"]) == (0, None)
    rows = [line.split("|") for line in part["table"].splitlines()[2:]]
    assert len(rows) == 6
    assert all(float(row[4]) < 1e-4 and float(row[6]) < 1e-4 for row in rows)
    assert part["table"] in (tmp_path / "out" / "proof.md").read_text()


def test_a_part_that_fails_is_recorded_and_the_others_go_on(tmp_path):
    code, proof = run(tmp_path / "out", "--only", "6", "1")  # GRPO without the student that part 5 makes
    assert code == 1
    assert [part["failed"] is None for part in proof["parts"]] == [True, False]


@pytest.mark.slow
def test_every_part_runs(tmp_path):
    code, proof = run(tmp_path / "out")
    assert (code, [part["failed"] for part in proof["parts"]]) == (0, [None] * 6)
