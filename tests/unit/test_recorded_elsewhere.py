"""Recorded completions of several sets, runs and tools in one place: the content decides which rows belong together."""

import json
import os
import subprocess
import sys

import pytest

from openrlhf_math.cli import main
from openrlhf_math.data.tables import Keys
from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.outside import read_completions


def write(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def numbered(set_name, offset):
    return [
        {"problem_index": n, "sample": 0, "problem": f"{set_name}{n}"}
        | {"gold": str(n + offset), "response": rf"\boxed{{{n + offset}}}"}
        for n in range(4)
    ]


def harness(set_name, offset, answer=None):
    return [
        {"doc_id": n, "doc": {"problem": f"{set_name}{n}"}, "target": str(n + offset), "filter": "none"}
        | {"resps": [[rf"\boxed{{{n + offset if answer is None else answer}}}"]]}
        for n in range(4)
    ]


def test_sets_numbered_from_0_are_kept_apart(tmp_path, capsys):
    write(tmp_path / "both" / "a.jsonl", numbered("A", 0))
    write(tmp_path / "both" / "b.jsonl", numbered("B", 10))
    rows = read_completions(tmp_path / "both")
    assert [(row.problem, row.gold) for row in rows] == [
        (f"{name}{n}", str(n + offset)) for name, offset in (("A", 0), ("B", 10)) for n in range(4)
    ]
    assert main(["vote", str(tmp_path / "both"), "--json", "--workers", "1"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["problems"], figures["pass@1"]["accuracy"]) == (8, [1.0])


def test_lm_evaluation_harness_tasks_are_kept_apart(tmp_path):
    write(tmp_path / "both" / "samples_algebra.jsonl", harness("a", 0))
    write(tmp_path / "both" / "samples_geometry.jsonl", harness("g", 10))
    assert len(read_completions(tmp_path / "both")) == 8


def test_two_runs_of_lm_evaluation_harness_are_refused(tmp_path):
    write(tmp_path / "both" / "one.jsonl", harness("a", 0))
    write(tmp_path / "both" / "two.jsonl", harness("a", 0, answer=7))
    with pytest.raises(UserError, match=r"two\.jsonl, line 1 has other completions .*one\.jsonl, line 1"):
        read_completions(tmp_path / "both")


def test_numeric_gold_equals_its_text(tmp_path):
    rows = [{"problem": "P", "gold": gold, "response": "5"} for gold in (1, "1")]
    assert [len(row.responses) for row in read_completions(write(tmp_path / "rows.jsonl", rows))] == [2]


@pytest.mark.parametrize(
    "row",
    [
        {"doc": {"problem": "P"}, "target": "1", "resps": "[[no JSON]]"},
        {"doc": {"query": "P", "choices": ["1"], "gold_index": 0}, "model_response": {"text": "one text"}},
        {"gold": "1", "response": "5", "scores": "no number"},
    ],
)
def test_text_instead_of_a_list_is_not_split(tmp_path, row):
    with pytest.raises(UserError, match="line 1: not as"):
        read_completions(write(tmp_path / "rows.jsonl", [row]))


def test_lists_that_are_json_in_a_cell(tmp_path):
    row = {"doc": json.dumps({"problem": "P"}), "target": "1", "resps": json.dumps([["a", "b"]])}
    (found,) = read_completions(write(tmp_path / "rows.jsonl", [row]))
    assert (found.problem, found.responses) == ("P", ["a", "b"])


def test_csv_as_pandas_writes_it(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("problem,gold,response,tokens,truncated\nP,1,a,5.0,True\nP,1,b,7.0,False\n")
    (found,) = read_completions(path)
    assert (found.tokens, found.truncated) == ([5, 7], [True, False])


def test_vote_reads_what_eval_reads(tmp_path, capsys):
    path = write(tmp_path / "rows.jsonl", [{"question": "P", "gt": "1", "code": [r"\boxed{1}", r"\boxed{2}"]}])
    assert main(["vote", str(path), "--json", "--workers", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["attempts"] == 2


def test_gold_within_a_list_or_a_field(tmp_path, capsys):
    rows = [{"doc": {"answers": ["1"]}, "gold": ["1"], "response": r"\boxed{1}"}]
    path, out = write(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl"
    for key in ("gold", "doc.answers.0"):
        assert main(["grade", str(path), "--gold-key", key, "--output", str(out), "--workers", "1"]) == 0
        assert json.loads(out.read_text())["outcome"] == "correct"
        assert [row.gold for row in read_completions(path, Keys(gold=key))] == ["1"]
    write(path, [{"gold": ["1", "2"], "response": "5"}])
    assert main(["grade", str(path)]) == 2
    assert "2 gold answers" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["vote", "--json"], ["grade", "--output", "/dev/stdout"]])
def test_broken_pipe(tmp_path, command):
    """As with `| head -1`: no traceback, and the exit code of a closed pipe if there was more to write."""
    path = write(tmp_path / "rows.jsonl", numbered("A", 0) * 400)
    process = subprocess.Popen(
        [sys.executable, "-m", "openrlhf_math", command[0], str(path), *command[1:]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout and process.stderr
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait(timeout=100) == 141
    assert "Traceback" not in said
