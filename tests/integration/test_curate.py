"""`openrlhf-math curate` through Ray Data, undisturbed and killed: the same bytes as in one process."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from curation import digest, synthetic  # noqa: E402


def command(folder: Path, output: str, workers: int) -> list[str]:
    return [
        *(sys.executable, "-m", "openrlhf_math", "curate", "--source", str(folder / "rows.jsonl")),
        *("--source", str(folder / "more.jsonl"), "--benchmark", f"some={folder / 'benchmark.jsonl'}"),
        *("--output", str(folder / output), "--workers", str(workers)),
    ]


def finish(*arguments) -> str:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two sets of 12,000 rows that share some, a benchmark, and the dataset that one process makes of them."""
    folder = tmp_path_factory.mktemp("curate")
    synthetic(folder / "rows.jsonl", 12_000, seed=1)
    synthetic(folder / "more.jsonl", 12_000, seed=2)
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    with (folder / "more.jsonl").open("a") as file:
        file.writelines(lines[:500])
    (folder / "benchmark.jsonl").write_text("".join(lines[::400]))
    finish(folder, "alone", 0)
    return folder


def test_ray_output_is_byte_identical_and_quiet(folder):
    result = finish(folder, "ray", 2)
    assert digest(folder / "ray") == digest(folder / "alone")
    assert len(list((folder / "ray/data").iterdir())) == 4
    assert "WARNING" not in result and "Traceback" not in result


@pytest.mark.slow
def test_random_kills_give_byte_identical_output(folder):
    rng = random.Random(0)
    killed = 0
    for _ in range(3):
        process = subprocess.Popen(command(folder, "killed", 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(3, 9))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
    assert killed
    finish(folder, "killed", 2)
    assert digest(folder / "killed") == digest(folder / "alone")


@pytest.mark.slow
def test_two_runs_in_one_directory_are_refused(folder):
    first = subprocess.Popen(command(folder, "twice", 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (folder / "twice/.work/lock").exists():
        time.sleep(0.05)
    second = subprocess.run(command(folder, "twice", 0), capture_output=True, text=True, timeout=60)
    assert second.returncode == 2 and "is being worked on by another run" in second.stderr
    assert first.wait(120) == 0
    assert digest(folder / "twice") == digest(folder / "alone")
