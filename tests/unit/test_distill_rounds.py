"""Distillation: further attempts while none is correct, the yield curve, and which questions are kept."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from faulty_endpoint import FaultyEndpoint
from pyarrow import parquet

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world.problems import distinct_stories
from openrlhf_math.distill.collect import Verdict, next_round, work_through
from openrlhf_math.distill.yields import yield_curve, yields

STORIES = distinct_stories(30, seed=8)
BYTES = ("dataset/data/train.parquet", "verdicts.jsonl", "report.json")


@pytest.fixture
def problems(tmp_path) -> Path:
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps({"problem": one.text, "answer": str(one.answer)}) + "\n" for one in STORIES))
    return path


def distill(server, problems, output, *flags) -> int:
    command = (
        "distill",
        "--problems",
        problems,
        "--output",
        output,
        "--model",
        "tiny-teacher",
        "--base-url",
        server.url,
    )
    return main([*map(str, command), *map(str, flags)])


def verdicts_of(output: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (output / "verdicts.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["attempt"] == len(found.setdefault(row["key"], []))
        found[row["key"]].append(row["outcome"])
    return found


@pytest.mark.parametrize(
    ("had", "most", "solved", "lost", "more"),
    [
        (4, 16, False, False, [4, 5, 6, 7]), (8, 12, False, False, [8, 9, 10, 11]), (16, 16, False, False, []),
        (4, 16, True, False, []), (4, 16, False, True, []), (1, 2, False, False, [1]), (4, 4, False, False, []),
    ],
)  # fmt: skip
def test_next_round(had, most, solved, lost, more):
    assert list(next_round(had, most, solved, lost)) == more


def test_more_attempts_go_only_to_unsolved_problems(problems, tmp_path):
    """Rounds of 1, 2, 4, 8 in all, and the same bytes as a run that asked in two goes."""
    output, again = tmp_path / "run", tmp_path / "again"
    with FaultyEndpoint() as server:
        assert distill(server, problems, output, "--attempts", 1, "--max-attempts", 8) == 0
        assert set(server.asked.values()) == {1}
        assert distill(server, problems, again, "--attempts", 1) == 0
        assert distill(server, problems, again, "--attempts", 1, "--max-attempts", 8) == 0
        asked = server.requests
        assert distill(server, problems, again, "--attempts", 1, "--max-attempts", 8) == 0
        assert server.requests == asked
    sizes = set()
    for outcomes in verdicts_of(output).values():
        sizes.add(len(outcomes))
        rounds = [outcomes[:end] for end in (1, 2, 4, 8) if end < len(outcomes)]
        assert not any("correct" in one for one in rounds), "no round follows a correct trace"
        assert "correct" in outcomes or len(outcomes) == 8
    assert {1, 2} < sizes <= {1, 2, 4, 8}
    for name in BYTES:
        assert (output / name).read_bytes() == (again / name).read_bytes()


def test_journal_rows_beyond_the_rounds_are_ignored(problems, tmp_path):
    output, plain = tmp_path / "run", tmp_path / "plain"
    with FaultyEndpoint() as server:
        assert distill(server, problems, output, "--attempts", 8) == 0
        asked = server.requests
        assert distill(server, problems, output, "--attempts", 1, "--max-attempts", 8) == 0
        assert server.requests == asked
        assert distill(server, problems, plain, "--attempts", 1, "--max-attempts", 8) == 0
    for name in BYTES:
        assert (output / name).read_bytes() == (plain / name).read_bytes()


def test_lost_attempt_ends_its_problem_in_this_run(problems, tmp_path):
    """The next run repeats it and reaches the result of a run without a fault."""
    output, whole = tmp_path / "run", tmp_path / "whole"
    flags = ("--attempts", 1, "--max-attempts", 8, "--tries", 1, "--concurrency", 1)
    with FaultyEndpoint(lambda number, question: "500" if number % 5 == 2 else "") as server:
        assert distill(server, problems, output, *flags) == 0
        assert any(outcomes[-1] == "set aside" for outcomes in verdicts_of(output).values())
        server.fault = lambda number, question: ""
        assert distill(server, problems, output, *flags) == 0
        assert set(server.asked.values()) == {1}
        assert distill(server, problems, whole, *flags) == 0
    for name in BYTES:
        assert (output / name).read_bytes() == (whole / name).read_bytes()


def test_yield_curve():
    """By hand: a is solved by its second attempt, b by its first, c never."""
    right, wrong = Verdict("correct", 10), Verdict("wrong", 5)
    had = {"a": [wrong, right], "b": [right], "c": [wrong, wrong, Verdict("set aside"), wrong]}
    rows = [(one.attempts, one.asked, one.solved, one.problems, one.correct, one.tokens) for one in yield_curve(had)]
    assert rows == [(1, 3, 1, 3, 1, 20), (2, 2, 2, 3, 2, 35), (3, 1, 2, 3, 2, 35), (4, 1, 2, 3, 2, 40)]


def test_tokens_are_unknown_where_the_teacher_does_not_give_those_of_each_reply():
    known, silent, lost = Verdict("correct", 10), Verdict("wrong", None), Verdict("set aside")
    assert [one.tokens for one in yield_curve({"a": [known, silent, known], "b": [known, lost]})] == [20, None, None]
    tasks = [SimpleNamespace(key=key, source=source) for key, source in (("a", "x"), ("b", "x"), ("c", "y"))]
    verdicts = {"a": [known, silent], "b": [known], "c": [known, lost]}
    found = yields(tasks, verdicts, Counter(a=1, b=1, c=1), lambda task: task.source)
    assert [found[name].as_row()["tokens_per_kept"] for name in ("x", "y")] == [None, 10]


def test_teacher_without_usage_gives_a_report_without_tokens(problems, tmp_path, capsys):
    with FaultyEndpoint(lambda number, question: "no usage") as server:
        assert distill(server, problems, tmp_path / "run", "--attempts", 1) == 0
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["by_attempts"][0]["tokens"] is None
    assert {one["tokens_per_kept"] for one in report["by_source"].values()} == {None}


def test_curve_is_reported_and_plotted(problems, tmp_path, capsys):
    with FaultyEndpoint() as server:
        assert distill(server, problems, tmp_path / "run", "--attempts", 1, "--max-attempts", 4) == 0
    curve = json.loads((tmp_path / "run/report.json").read_text())["by_attempts"]
    outcomes = verdicts_of(tmp_path / "run")
    solved = [sum("correct" in one[:number] for one in outcomes.values()) for number in range(1, 5)]
    assert [one["solved"] for one in curve] == solved[: len(curve)] and curve[0]["asked"] == 30
    assert (tmp_path / "run/yield.png").read_bytes().startswith(b"\x89PNG")
    assert "Solved by attempts" in capsys.readouterr().out


@pytest.mark.parametrize("rule", ["verified", "all"])
def test_longest_traces_are_kept(rule, problems, tmp_path):
    with FaultyEndpoint() as server:
        assert distill(server, problems, tmp_path / "all", "--keep", rule) == 0
        assert distill(server, problems, tmp_path / "some", "--keep", rule, "--questions", "longest:7") == 0
    lengths: dict[str, list[int]] = {}
    keys: dict[int, str] = {}
    for line in (tmp_path / "all/verdicts.jsonl").read_text().splitlines():
        row = json.loads(line)
        keys[row["row"]] = row["key"]
        if row["outcome"] == "correct" or (rule == "all" and row["outcome"] == "wrong"):
            lengths.setdefault(row["key"], []).append(row["tokens"])
    means = {key: sum(of_one) / len(of_one) for key, of_one in lengths.items()}
    wanted = sorted(means, key=lambda key: -means[key])[:7]
    tasks = {story.text: keys[number] for number, story in enumerate(STORIES, start=1)}
    rows = parquet.read_table(tmp_path / "some/dataset/data/train.parquet").to_pylist()
    assert {tasks[row["problem"]] for row in rows} == set(wanted)


def test_unverified_traces_are_named(problems, tmp_path):
    with FaultyEndpoint() as server:
        assert distill(server, problems, tmp_path / "run", "--keep", "all") == 0
    rows = parquet.read_table(tmp_path / "run/dataset/data/train.parquet").to_pylist()
    assert {row["outcome"] for row in rows} == {"correct", "wrong"}
    for row in rows:
        right = f"\\boxed{{{row['answer']}}}" in row["response"]
        assert right == (row["outcome"] == "correct")
    card = (tmp_path / "run/dataset/README.md").read_text()
    assert "# Verified" not in card and "whatever their answer" in card


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_all_items_are_processed_including_new_ones(workers):
    rng, done, busy, most = random.Random(workers), [], 0, 0

    async def work(name, number):
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(rng.random() / 1000)
        busy -= 1
        done.append((name, number))
        return [(name, number + 1)] if number < 3 else ()

    asyncio.run(work_through([(name, 0) for name in range(20)], work, workers))
    assert sorted(done) == [(name, number) for name in range(20) for number in range(4)]
    assert most <= workers


def test_first_error_ends_all():
    async def work(name, number):
        await asyncio.sleep(0 if name == 3 else 60)
        raise ValueError(name)

    with pytest.raises(ValueError, match="3"):
        asyncio.run(work_through([(name, 0) for name in range(5)], work, 5))
