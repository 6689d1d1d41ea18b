"""What `import openrlhf_math` offers: lists and DataFrames in, grades and votes out. The import loads nothing heavy."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest

import openrlhf_math
from openrlhf_math import RewardConfig, UserError, compare, curate, grade, vote

ROOT = Path(__file__).parents[2]
HALF = [r"\boxed{1/2}", r"\boxed{\frac12}", r"\boxed{0.5}"]


@pytest.mark.parametrize(
    "lists", [list, np.array, pandas.Series, lambda values: pandas.Series(values, index=range(7, 7 + len(values)))]
)
def test_lists_are_graded_in_their_order(lists):
    golds = lists(["0.5", "2", "8"])
    assert [one.outcome for one in grade(lists([*HALF[:2], r"\boxed{8}"]), golds)] == ["correct", "format", "correct"]


def test_text_is_graded_with_its_gold():
    assert grade(HALF[0], "0.5").outcome == grade(HALF[0], 0.5).outcome == "correct"
    assert grade(HALF[0], "2", config=RewardConfig(format_reward=0.5)).reward == 0.5
    assert grade(r"\boxed{B}", "12", "What is 3 times 4? (A) 7 (B) 12 (C) 34").outcome == "correct"


def test_numeric_golds_and_missing_responses():
    responses = pandas.Series([r"\boxed{3}", np.nan, None, r"\boxed{2}"])
    found = grade(responses, [np.int64(3), 3, 3.0, np.float64(2)])
    assert [one.outcome for one in found] == ["correct", "wrong", "wrong", "correct"]


def test_frame_returns_with_columns_and_index():
    frame = pandas.DataFrame({"answer": ["0.5", "7"], "said": [HALF[1], np.nan], "other": [1, 2]}, index=[5, 9])
    graded = grade(frame, gold="answer", response="said")
    assert list(graded.index) == [5, 9] and list(graded["other"]) == [1, 2]
    assert list(graded["outcome"]) == ["correct", "wrong"] and list(graded["reward"]) == [1.0, 0.0]
    assert graded["graded_answer"][5] == r"\frac12" and list(graded["answer"]) == ["0.5", "7"]
    assert list(frame.columns) == ["answer", "said", "other"]


def test_equal_answers_vote_together():
    attempts = [[r"\boxed{3}", *HALF[:2]], [None, "no answer"], [r"\boxed{9}", r"\boxed{8}"]]
    first, second, third = vote(attempts, golds=["0.5", "1", 8])
    assert (first.answer, first.attempt, first.votes, first.correct) == ("1/2", 1, 2, True)
    assert (second.answer, second.attempt, second.votes, second.correct) == (None, None, 0, False)
    assert (third.answer, third.correct) == ("9", False)
    assert [one.correct for one in vote(attempts)] == [None, None, None]


def test_scores_choose():
    attempts, scores = [[r"\boxed{8}", r"\boxed{9}", r"\boxed{8}"]], [[[0.9, 0.1], [0.1, 0.8], 0.3]]
    assert vote(attempts, scores=scores, rule="best_of_n")[0].answer == "9"
    assert vote(attempts, scores=scores, rule="best_of_n", aggregation="mean")[0].answer == "8"
    assert vote(attempts, scores=scores)[0].answer == "8"


def test_frame_of_attempts(tmp_path):
    frame = pandas.DataFrame({"gold": ["0.5"], "responses": [[r"\boxed{3}", *HALF]], "scores": [[0.9, 0.1, 0.1, 0.2]]})
    frame.to_parquet(tmp_path / "rows.parquet")
    for one in (frame, pandas.read_parquet(tmp_path / "rows.parquet")):  # the second has arrays in its cells
        assert list(vote(one)["correct"]) == [True] and list(vote(one)["votes"]) == [3]
        assert list(vote(one, rule="best_of_n")["answer"]) == ["3"]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: grade(r"\boxed{1}"), "golds"),
        (lambda: grade(r"\boxed{1}", {"answer": 1}), "row 1"),
        (lambda: grade(["a"]), "golds"),
        (lambda: grade(["a", "b"], ["1"]), "golds"),
        (lambda: grade(["a", "b"], ["1", None]), "row 2"),
        (lambda: grade(["a", 5], ["1", "2"]), "row 2"),
        (lambda: grade(pandas.DataFrame({"gold": ["1"]})), "'response'"),
        (lambda: vote(["a", "b"]), "list"),
        (lambda: vote([["a"]], rule="nope"), "nope"),
        (lambda: vote([["a"]], rule="weighted"), "weighted"),
        (lambda: vote([["a"]], rule="genselect"), "genselect"),
        (lambda: vote([["a"], ["b"]], scores=[[1.0], None], rule="weighted"), "row 2"),
        (lambda: vote([["a"]], scores=[[1.0, 2.0]]), "row 1"),
        (lambda: curate(["none.jsonl"], "out"), "none.jsonl"),
        (lambda: curate(["none.jsonl"], "out", near=3), "near"),
        (lambda: compare("none", "none"), "none"),
    ],
)
def test_bad_input_is_one_sentence(call, named):
    with pytest.raises(UserError, match=named):
        call()


def test_import_loads_no_heavy_packages():
    look = (
        "import sys, openrlhf_math; print([m for m in ('numpy', 'pandas', 'torch', 'ray', 'vllm') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", look], capture_output=True, text=True).stdout.strip() == "[]"
    look = look.replace("; print", r"; from openrlhf_math import grade; grade(['\\boxed{1}'], [1]); print")
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True).stdout.strip()
    assert not {"pandas", "torch", "ray", "vllm"} & set(eval(found))


def test_every_name_exists_and_is_documented():
    page = (ROOT / "docs" / "python.md").read_text()
    for name in openrlhf_math.__all__:
        assert getattr(openrlhf_math, name) and name in dir(openrlhf_math) and f"`{name}" in page
    for name in ("grade", "vote", "curate", "compare"):
        signature = inspect.signature(getattr(openrlhf_math, name))
        assert all(each.annotation is not each.empty for each in signature.parameters.values() if each.name != "more")


def test_notebook_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    cells = json.loads((ROOT / "examples" / "notebook.ipynb").read_text())["cells"]
    names: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert [one.outcome for one in names["grades"]] == ["correct", "format", "wrong", "wrong"]
    assert [(one.answer, one.correct) for one in names["votes"]] == [("1/2", True), ("8", False)]
    assert names["scored"][0].correct is True
    assert list(names["graded"]["outcome"]) == ["correct", "format"]
    assert names["summary"].steps[-1][1] == 17


def test_vote_reads_all_scores_on_one_scale():
    """One score of 5 makes all of them logits: e^0.9 is less than e^0.3 + e^0.3."""
    attempts = [[r"\boxed{2}", r"\boxed{3}", r"\boxed{2}"], [r"\boxed{2}"]]
    first, _ = vote(attempts, scores=[[0.3, 0.9, 0.3], [5.0]], rule="weighted")
    assert first.answer == "2"
    first, _ = vote(attempts, scores=[[0.3, 0.9, 0.3], [0.5]], rule="weighted")
    assert first.answer == "3"
