"""`openrlhf-math curate --pass-rate`: an evaluation's outcomes become a column of the problems."""

import json

import pytest

from openrlhf_math.cli import main

PROBLEMS = [{"problem": "1+1", "answer": "2", "level": 1}, {"problem": "2+2", "answer": "4", "level": 2}]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def completions(**outcomes) -> list[dict]:
    return [{"problem": text, "outcome": each} for text, all_ in outcomes.items() for each in all_]


def curate(tmp_path, problems, run, *more) -> int:
    source = write(tmp_path / "problems.jsonl", problems)
    command = ["curate", "--source", str(source), "--pass-rate", str(run), "--output", str(tmp_path / "out"), *more]
    return main(command)


def rated(tmp_path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "out" / "problems.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("place", ["run/completions.jsonl", "run/mine/completions.jsonl"])
def test_outcomes_become_an_added_pass_rate_column(tmp_path, place, capsys):
    outcomes = completions(**{"1+1": ["correct", "wrong", "format", "ungraded"], "other": ["correct"]})
    write(tmp_path / place, outcomes)
    assert curate(tmp_path, PROBLEMS, tmp_path / "run") == 0
    assert rated(tmp_path) == [
        PROBLEMS[0] | {"pass_rate": 0.25, "attempts": 4},
        PROBLEMS[1] | {"pass_rate": None, "attempts": 0},
    ]
    result = capsys.readouterr()
    assert "1 problems are not in the run" in result.err and "1 completions could not be graded" in result.err
    assert "20% to 30%" in result.out


def test_run_below_another_is_not_counted_with_it(tmp_path):
    """Of several benchmarks, those that the summary names; of one, its own file."""
    run = tmp_path / "run"
    write(run / "completions.jsonl", completions(**{"1+1": ["correct"]}))
    write(run / "of_another_model" / "completions.jsonl", completions(**{"1+1": ["wrong"]}))
    assert curate(tmp_path, PROBLEMS, run) == 0
    assert rated(tmp_path)[0]["attempts"] == 1
    (run / "completions.jsonl").unlink()
    write(run / "a" / "completions.jsonl", completions(**{"1+1": ["correct", "wrong"]}))
    write(run / "b" / "completions.jsonl", completions(**{"2+2": ["correct"]}))
    (run / "summary.json").write_text(json.dumps({"benchmarks": {"a": {}, "b": {}}}))
    assert curate(tmp_path, PROBLEMS, run) == 0
    assert [row["attempts"] for row in rated(tmp_path)] == [2, 1]


@pytest.mark.parametrize("summary", [None, {"benchmarks": {"a": {}, "b": {}}}])
def test_run_with_a_benchmark_that_is_not_done_is_refused(tmp_path, capsys, summary):
    write(tmp_path / "run" / "a" / "completions.jsonl", completions(**{"1+1": ["correct"]}))
    write(tmp_path / "run" / "journal.jsonl", [{}])
    if summary:
        (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    assert curate(tmp_path, PROBLEMS, tmp_path / "run") == 2
    assert "--pass-rate" in capsys.readouterr().err and not list((tmp_path / "out").glob("*"))


def test_numbers_that_json_lacks_become_null(tmp_path):
    run = write(tmp_path / "made.jsonl", completions(**{"1+1": ["correct"]}))
    assert curate(tmp_path, [PROBLEMS[0] | {"score": float("nan")}], run) == 0
    assert rated(tmp_path)[0]["score"] is None


def test_dialogue_is_known_by_its_last_message(tmp_path):
    chat = [{"role": "system", "content": "add"}, {"role": "user", "content": "1+1 "}]
    run = write(tmp_path / "made.jsonl", completions(**{"1+1": ["correct"]}))
    assert curate(tmp_path, [{"question": chat}], run, "--problem-key", "question", "--json") == 0
    assert rated(tmp_path) == [{"question": chat, "pass_rate": 1.0, "attempts": 1}]


@pytest.mark.parametrize(
    ("files", "more", "sentence"),
    [
        ({}, (), "there is no completions.jsonl in it"),
        ({"journal.jsonl": [{}]}, (), "the evaluation is not finished; the same `eval` command continues"),
        ({"completions.jsonl": [{"problem": "1+1"}]}, (), "row 1: there is no problem with an outcome"),
        ({"completions.jsonl": completions(other=["correct"])}, (), "none of its problems is in --source"),
        ({"completions.jsonl": completions(other=["correct"])}, ("--problem-key", "question"), "column 'question'"),
        ({"completions.jsonl": []}, ("--benchmark", "aime"), "--pass-rate adds a column to the rows of one --source"),
    ],
)
def test_failed_join_is_one_sentence_and_writes_nothing(tmp_path, capsys, files, more, sentence):
    for name, rows in files.items():
        write(tmp_path / "run" / name, rows)
    assert curate(tmp_path, PROBLEMS, tmp_path / "run", *more) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1
    assert not list((tmp_path / "out").glob("*"))
