"""Distillation for real: the same dataset whenever it is killed; vLLM engines as teachers; a student that learns."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from faulty_endpoint import SLOW, FaultyEndpoint

from openrlhf_math.data.tiny_world.problems import distinct_stories
from openrlhf_math.runs.journal import BATCH_SECONDS

PROBLEMS, ATTEMPTS, CONCURRENCY = 60, 4, 8
ALL = PROBLEMS * ATTEMPTS
# DISTILL_KILLS=10 for as many moments as one likes.
KILLS = int(os.environ.get("DISTILL_KILLS", "3"))


def command(problems: Path, output: Path, *flags) -> list[str]:
    fixed = ("distill", "--problems", problems, "--output", output, "--attempts", ATTEMPTS)
    return [sys.executable, "-m", "openrlhf_math", *map(str, fixed), *map(str, flags)]


def run(*args) -> subprocess.CompletedProcess:
    result = subprocess.run(command(*args), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result


@pytest.fixture(scope="module")
def problems(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("problems") / "problems.jsonl"
    rows = [
        {"problem": story.text, "answer": str(story.answer), "difficulty": story.difficulty}
        for story in distinct_stories(PROBLEMS, seed=9)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_random_kills_do_not_change_the_dataset(problems, tmp_path):
    """With faults on top. What was answered is not asked again but for the last batch and what was on its way."""
    whole, output, moments = tmp_path / "whole", tmp_path / "killed", []
    with FaultyEndpoint(lambda number, question: "500" if number % 40 == 0 else "slow") as server:
        flags = ("--model", "tiny-teacher", "--base-url", server.url, "--concurrency", CONCURRENCY, "--keep", "best")
        run(problems, whole, *flags)
        assert set(server.asked.values()) == {1}
        server.asked.clear()
        for _ in range(KILLS):
            moments.append(kill_at_random(command(problems, output, *flags), output / "journal.jsonl"))
        run(problems, output, *flags)
    twice = server.asked.total() - ALL
    print(f"killed with {moments} of {ALL} attempts in the journal; {twice} answered twice")
    assert moments == sorted(moments)
    for name in ("dataset/data/train.parquet", "verdicts.jsonl", "report.json"):
        assert (output / name).read_bytes() == (whole / name).read_bytes()
    assert not list(output.rglob(".*")), "nothing unfinished is left"
    records = map(json.loads, (output / "journal.jsonl").read_text().splitlines())
    names = [(record["key"], record["attempt"]) for record in records]
    assert len(names) == len(set(names)) == ALL == len(server.asked)
    # On their way, or of the last batch; each connection gets one reply in SLOW seconds. The machine may be busy.
    assert twice <= KILLS * CONCURRENCY * (1 + 10 * BATCH_SECONDS / SLOW)


def kill_at_random(command: list[str], journal: Path) -> int:
    """Kill the command a moment after its journal has grown by some lines, or is whole. Returns how many it has."""
    wanted = min(lines(journal) + random.randint(1, 2 * ALL // KILLS), ALL)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while lines(journal) < wanted:
        time.sleep(0.005)
    time.sleep(random.choice((0, 0.1, 1)) * random.random())
    process.send_signal(signal.SIGKILL)
    process.wait()
    return lines(journal)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


ENGINE_FLAGS = (
    "--engine-args",
    '{"max_logprobs": 7}',
    "--instruction",
    "",
    "--max-tokens",
    128,
    "--temperature",
    1,
    "--top-p",
    1,
    "--max-problems",
    20,
)


@pytest.fixture(scope="module")
def engine_run(demo, tmp_path_factory) -> Path:
    """The demo's student as a teacher, in one engine in the command's own process."""
    output = tmp_path_factory.mktemp("engine") / "run"
    run(demo / "world/train.jsonl", output, "--teacher", "engine", "--model", demo / "sft/model", *ENGINE_FLAGS)
    return output


def test_local_engine_as_teacher(engine_run):
    report = json.loads((engine_run / "report.json").read_text())
    assert report["counts"]["attempts"] == 80 == report["total"]["answered"]
    assert 0 < report["total"]["kept"] < 80
    records = [json.loads(line) for line in (engine_run / "journal.jsonl").read_text().splitlines()]
    assert len({record["content"] for record in records}) > 40, "each attempt has a distinct seed"


def test_killed_engine_run_leaves_no_process(demo, tmp_path):
    """vLLM's own processes would stay, and hold the memory that the next run needs."""
    flags = ("--teacher", "engine", "--model", demo / "sft/model", *ENGINE_FLAGS)
    process = subprocess.Popen(
        command(demo / "world/train.jsonl", tmp_path / "run", *flags),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while not lines(tmp_path / "run/journal.jsonl"):
        assert process.poll() is None
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert children and not psutil.wait_procs(children, timeout=10)[1]


@pytest.mark.slow
def test_ray_engines_resume_a_single_engine_run_and_refuse_long_prompts(demo, engine_run, tmp_path):
    """Ten attempts of the run above, asked again of two Ray actors; and a problem longer than their context."""
    problems, output = tmp_path / "problems.jsonl", tmp_path / "run"
    rows = (demo / "world/train.jsonl").read_text().splitlines()[:20]
    problems.write_text("\n".join([*rows, json.dumps({"problem": "Add all: " + "1 + " * 400, "answer": "400"})]) + "\n")
    output.mkdir()
    for name in ("config.json", "journal.jsonl"):
        (output / name).write_bytes((engine_run / name).read_bytes())
    lines = (output / "journal.jsonl").read_text().splitlines(keepends=True)
    (output / "journal.jsonl").write_text("".join(lines[:70]) + lines[70][:30])
    flags = (*ENGINE_FLAGS[:-2], "--engines", 2, "--max-context", 256)
    run(problems, output, "--teacher", "engine", "--model", demo / "sft/model", *flags)
    last = json.loads((output / "runs.jsonl").read_text().splitlines()[-1])
    assert last["had"] == 70 and last["answered"] == 10
    rejects = [json.loads(line) for line in (output / "rejects.jsonl").read_text().splitlines()]
    assert [one["row"] for one in rejects] == [21] * ATTEMPTS and "256" in rejects[0]["reason"]


@pytest.mark.slow
def test_student_learns_from_the_dataset(demo, tmp_path):
    """Through the real endpoint of the programmatic teacher, as the demo does it; then OpenRLHF's SFT reads it."""
    server = subprocess.Popen(
        [sys.executable, "-m", "openrlhf_math", "tiny-teacher"], stdout=subprocess.PIPE, text=True
    )
    try:
        url = server.stdout.readline().strip()
        run(demo / "world/train.jsonl", tmp_path / "run", "--model", "tiny-teacher", "--base-url", url)
    finally:
        server.terminate()
        server.wait(timeout=10)
    sft = [
        sys.executable, "-m", "openrlhf_math", "sft", "--model.model_name_or_path", demo / "world/model",
        "--data.dataset", tmp_path / "run/dataset", "--math.run_dir", tmp_path / "sft", "--math.instruction", "",
        "--data.max_len", 256, "--train.batch_size", 8, "--train.micro_batch_size", 8, "--train.max_epochs", 1,
        "--adam.lr", "2e-3", "--data.max_samples", 800,
    ]  # fmt: skip
    result = subprocess.run(list(map(str, sft)), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    losses = [json.loads(line)["loss"] for line in (tmp_path / "sft/metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] / 3
