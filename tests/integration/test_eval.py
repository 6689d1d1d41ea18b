"""`openrlhf-math eval` on the real engine: killed it comes to the same results; several benchmarks; greedy."""

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

# EVAL_KILLS=10 for as many moments as one likes.
KILLS = int(os.environ.get("EVAL_KILLS", "2"))
PROBLEMS, SAMPLES = 60, 4
FLAGS = ("--instruction", "", "--style", "think", "--max-tokens", "128", "--max-problems", str(PROBLEMS))
SAMPLED = ("--samples", str(SAMPLES), "--temperature", "1")


def command(model: Path, output: Path, *flags) -> list[str]:
    fixed = ("eval", "--model", model, "--output", output, *FLAGS)
    return [sys.executable, "-m", "openrlhf_math", *map(str, fixed), *map(str, flags)]


def run(*args) -> str:
    result = subprocess.run(command(*args), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout


def figures(folder: Path) -> dict:
    """Without the times, which no two runs share."""
    report = json.loads((folder / "summary.json").read_text())
    return {name: value for name, value in report.items() if "second" not in name and name != "resumed_with"}


@pytest.fixture(scope="module")
def student(demo) -> Path:
    return demo / "sft" / "model"


@pytest.fixture(scope="module")
def whole(demo, student, tmp_path_factory) -> Path:
    """Two benchmarks in one run: the held-out problems, and a holdout of the training problems."""
    output = tmp_path_factory.mktemp("eval") / "whole"
    run(student, output, *two_benchmarks(demo), *SAMPLED, "--parquet")
    return output


def two_benchmarks(demo: Path) -> tuple:
    world = demo / "world"
    return "--benchmark", world / "heldout.jsonl", "--benchmark", f"holdout:{world / 'train.jsonl'}", "--holdout", 80


def test_two_benchmarks_have_metrics_and_completions(whole):
    report = json.loads((whole / "summary.json").read_text())["benchmarks"]
    assert list(report) == ["heldout", "holdout-train"]
    for name, one in report.items():
        assert one == json.loads((whole / name / "summary.json").read_text())
        rows = [json.loads(line) for line in (whole / name / "completions.jsonl").read_text().splitlines()]
        assert len(rows) == PROBLEMS * SAMPLES
        assert sum(row["outcome"] == "correct" for row in rows) / len(rows) == pytest.approx(one["pass_at_1"])
        assert (
            one["ci95"][0] <= one["pass_at_1"] <= one["pass_at_k"]["2"]["accuracy"] <= one["pass_at_k"]["4"]["accuracy"]
        )
        assert 0 < one["maj_at_k"]["4"]["accuracy"] <= one["pass_at_k"]["4"]["accuracy"]
        assert one["tokens_per_correct"] == pytest.approx(one["completion_tokens"] / one["pass_at_1"])
        assert len({row["response"] for row in rows if row["problem_index"] == 0}) > 1, "each has a distinct seed"
        assert (whole / name / "completions.parquet").is_file()
    assert len((whole / "holdout-train.jsonl").read_text().splitlines()) == PROBLEMS
    assert list(report["heldout"]["by"]["difficulty"]) == ["2", "3", "4"]


@pytest.mark.slow
def test_random_kills_do_not_change_results(demo, student, whole, tmp_path):
    output, flags = tmp_path / "killed", (*two_benchmarks(demo), *SAMPLED, "--parquet")
    moments = [kill_at_random(command(student, output, *flags), output / "journal.jsonl") for _ in range(KILLS)]
    run(student, output, *flags)
    print(f"killed with {moments} of {2 * PROBLEMS * SAMPLES} completions in the journal")
    assert moments == sorted(moments)
    for name in ("heldout", "holdout-train"):
        assert (output / name / "completions.jsonl").read_bytes() == (whole / name / "completions.jsonl").read_bytes()
        assert figures(output / name) == figures(whole / name)
    assert not list(output.rglob(".*")), "nothing unfinished is left"
    names = [
        (row["key"], row["attempt"]) for row in map(json.loads, (output / "journal.jsonl").read_text().splitlines())
    ]
    assert len(names) == len(set(names)) == 2 * PROBLEMS * SAMPLES, "what is there is not made again"


def kill_at_random(command: list[str], journal: Path) -> int:
    """Kill the command a moment after its journal has grown by some lines, or is whole. Returns how many it has."""
    most = 2 * PROBLEMS * SAMPLES
    wanted = min(lines(journal) + random.randint(1, 2 * most // (KILLS + 1)), most)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while lines(journal) < wanted:
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(random.choice((0, 0.1, 1)) * random.random())
    process.send_signal(signal.SIGKILL)
    process.wait()
    return lines(journal)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
def test_two_engines_match_one_after_a_death_and_rerun(demo, student, whole, tmp_path):
    output, flags = tmp_path / "two", (*two_benchmarks(demo), *SAMPLED, "--engines", 2)
    process = subprocess.Popen(command(student, output, *flags), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    while lines(output / "journal.jsonl") < 20:
        assert process.poll() is None
        time.sleep(0.005)
    engines = [one for one in psutil.Process(process.pid).children(recursive=True) if "EngineActor" in one.name()]
    assert len(engines) == 2
    engines[0].kill()
    error = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 2 and "--engines died" in error.splitlines()[-1], error[-2000:]
    assert 20 <= lines(output / "journal.jsonl") < 2 * PROBLEMS * SAMPLES
    run(student, output, *flags)
    report = json.loads((output / "summary.json").read_text())["benchmarks"]
    assert 0 < report["heldout"]["resumed_with"] < PROBLEMS * SAMPLES
    for name in ("heldout", "holdout-train"):
        assert lines(output / name / "completions.jsonl") == PROBLEMS * SAMPLES
        # What is computed together may change a logit in bfloat16, and with it a completion.
        assert abs(report[name]["pass_at_1"] - figures(whole / name)["pass_at_1"]) < 0.1


def test_finished_run_is_shown_without_an_engine(demo, student, whole):
    before = (whole / "heldout" / "completions.jsonl").read_bytes()
    begun = time.monotonic()
    run(student, whole, *two_benchmarks(demo), *SAMPLED)
    print(f"shown again after {time.monotonic() - begun:.1f} s")
    assert (whole / "heldout" / "completions.jsonl").read_bytes() == before
    report = json.loads((whole / "summary.json").read_text())["benchmarks"]["heldout"]
    assert report["resumed_with"] == PROBLEMS * SAMPLES and report["seconds_loading"] < 1


def test_other_settings_are_refused(demo, student, whole):
    asked = command(student, whole, *two_benchmarks(demo), *SAMPLED, "--seed", 1)
    result = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and "--seed was 0, is 1" in result.stderr and result.stderr.count("\n") == 1


def test_scoring_from_the_file_gives_the_same_metrics(whole, tmp_path):
    """Without the model: grading and figures depend on the completions alone."""
    output = tmp_path / "scored"
    source = whole / "heldout" / "completions.jsonl"
    scored = [sys.executable, "-m", "openrlhf_math", "eval", "--completions", source, "--output", output]
    subprocess.run([*map(str, scored), "--style", "think"], check=True, capture_output=True, timeout=120)
    ours, theirs = figures(whole / "heldout"), figures(output)
    for name in ("pass_at_1", "ci95", "pass_at_k", "maj_at_k", "tokens_per_correct", "truncation_rate", "by"):
        assert ours[name] == theirs[name], name
    assert (output / "completions.jsonl").read_bytes() == source.read_bytes()


def test_before_and_after_are_compared(demo):
    both = [demo / "eval_before", demo / "eval_after"]
    compared = [sys.executable, "-m", "openrlhf_math", "eval", "--compare", *both, "--json"]
    result = subprocess.run(list(map(str, compared)), check=True, capture_output=True, text=True, timeout=60)
    (report,) = json.loads(result.stdout).values()
    before, after = (json.loads((folder / "summary.json").read_text())["pass_at_1"] for folder in both)
    one = report["pass_at_1"]
    assert one["difference"] == pytest.approx(after - before)
    assert one["interval"][0] <= one["difference"] <= one["interval"][1] and 0 < one["p_value"] <= 1


def test_greedy_samples_once_and_few_shot_stops_at_the_next_problem(demo, student, tmp_path):
    output = tmp_path / "greedy"
    flags = ("--prompt", "few-shot", "--max-problems", 8, "--json")
    report = json.loads(run(student, output, "--benchmark", demo / "world" / "heldout.jsonl", *flags))["heldout"]
    assert (report["samples"], report["sampling_temperature"], report["pass_at_k"]) == (1, 0.0, {})
    rows = [json.loads(line) for line in (output / "completions.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and not any("\nProblem:" in row["response"] for row in rows)


@pytest.fixture(scope="module")
def reranked(demo, student, tmp_path_factory) -> tuple[Path, tuple]:
    """A few problems, sampled and scored in one run, and its flags."""
    scorer = ("--scorer", "qwen2.5-math-prm", "--scorer-model", demo / "prm" / "run" / "model", "--separator", r"\n")
    problems = ("--benchmark", demo / "world" / "heldout.jsonl", "--max-problems", 12)
    flags = (*problems, *SAMPLED, *scorer, "--aggregate", "min")
    output = tmp_path_factory.mktemp("eval") / "reranked"
    run(student, output, *flags)
    return output, flags


def test_scorer_chooses_among_the_completions(reranked):
    output, _ = reranked
    report, rows = figures(output), completions(output)
    assert len(rows) == 48 and all(0 <= min(row["scores"]) <= max(row["scores"]) <= 1 for row in rows)
    answers = [row["answer"] for row in rows]

    def rank(one: int) -> tuple:
        """Of equal scores the answer that more of the problem's completions have."""
        first = one - one % SAMPLES
        votes = answers[first : first + SAMPLES].count(answers[one])
        return answers[one] is not None, min(rows[one]["scores"]), votes, -one

    best = [max(range(at, at + SAMPLES), key=rank) for at in range(0, 48, SAMPLES)]
    assert report["best_of_k"]["4"]["accuracy"] == sum(rows[one]["outcome"] == "correct" for one in best) / 12
    assert report["weighted_at_k"]["4"]["accuracy"] <= report["pass_at_k"]["4"]["accuracy"]
    assert (report["scorer"], report["aggregation"], report["unscored"]) == ("qwen2.5-math-prm", "min", 0)


@pytest.mark.slow
def test_only_scores_lost_in_a_kill_are_recomputed(student, reranked):
    output, flags = reranked
    before, journal = (output / "completions.jsonl").read_bytes(), output / "scores.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:20]) + lines[20][:30])
    run(student, output, *flags)
    assert journal.read_bytes().startswith(b"".join(lines[:20])) and len(journal.read_bytes().splitlines()) == 48
    assert near((output / "completions.jsonl").read_bytes(), before)


def test_another_aggregation_of_the_same_scores_needs_no_engine(student, reranked):
    output, flags = reranked
    begun = time.monotonic()
    run(student, output, *flags[:-1], "product")
    assert time.monotonic() - begun < 60 and figures(output)["aggregation"] == "product"


def test_changing_the_scorer_is_refused(student, reranked):
    output, flags = reranked
    asked = command(student, output, *flags, "--separator", "; ")
    result = subprocess.run(asked, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2 and "--separator was" in result.stderr


def test_external_completions_get_the_same_scores(demo, reranked, tmp_path):
    output, flags = reranked
    scorer = flags[flags.index("--scorer") :]
    made = tmp_path / "made.jsonl"
    with made.open("w") as file:
        for row in completions(output):
            row.pop("scores")
            file.write(json.dumps(row) + "\n")
    command = ["eval", "--completions", made, "--style", "think", "--output", tmp_path / "scored", *scorer]
    subprocess.run(
        [sys.executable, "-m", "openrlhf_math", *map(str, command)], check=True, capture_output=True, timeout=300
    )
    assert near((tmp_path / "scored" / "completions.jsonl").read_bytes(), (output / "completions.jsonl").read_bytes())


def completions(output: Path) -> list[dict]:
    return list(map(json.loads, (output / "completions.jsonl").read_text().splitlines()))


def near(one: bytes, other: bytes) -> bool:
    """The same rows, up to bfloat16's rounding in the scores: which are computed together is chance."""
    rows, others = ([json.loads(line) for line in text.splitlines()] for text in (one, other))
    scores, other_scores = ([row.pop("scores") for row in part] for part in (rows, others))
    return rows == others and all(
        one == pytest.approx(other, abs=0.02) for one, other in zip(scores, other_scores, strict=True)
    )
