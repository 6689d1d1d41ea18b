"""Step labels from people and from the tiny world's checker, and the command that writes them."""

import json

import pytest
from pyarrow import parquet

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world.problems import Story, check_lines, distinct_stories
from openrlhf_math.data.tiny_world.server import teach
from openrlhf_math.prm.labelling import is_heldout
from openrlhf_math.prm.rows import Solution, read_solution
from openrlhf_math.prm.sources import solutions
from openrlhf_math.rerank.steps import split_steps

LEO = Story("Leo", "pens", 9, ("loses", "finds", "sells"), (-3, 3, -2))

CHECKED = {
    "all right": (["Leo has 9 pens.", "9-3=6.", "6+3=9.", "9-2=7.", "The answer is \\boxed{7}."], "11111"),
    "another thing": (["Leo has 9 books.", "9-3=6."], "11"),
    "another number": (["Leo has 8 pens.", "Ana has 9 pens.", "9-3=6."], "001"),
    "a wrong sum that later steps use": (["9-3=5.", "5+3=8.", "8-2=6.", "The answer is \\boxed{6}."], "0000"),
    "a wrong sum, then the story's own total": (["9-3=5.", "6+3=9.", "9-2=7."], "011"),
    "a change that is not the story's": (["9-3=6.", "6+2=8.", "8-2=6."], "100"),
    "a change taken twice": (["9-3=6.", "9-3=6.", "6+3=9."], "101"),
    "a change left out": (["9-3=6.", "6-2=4.", "The answer is \\boxed{4}."], "100"),
    "one change too many": (["9-3=6.", "6+3=9.", "9-2=7.", "7-2=5."], "1110"),
    "checked again": (["9-3=6.", "Let me check that again.", "9-3=6.", "6+3=9.", "9-2=7."], "11111"),
    "wrong when checked": (["9-3=6.", "Let me check that again.", "6+3=9."], "110"),
    "started again": (["9-3=6.", "Leo has 9 pens.", "9-3=6."], "111"),
    "a right answer after a wrong step": (["9-3=5.", "The answer is \\boxed{7}."], "01"),
    "an answer that is cut off": (["The answer is \\", "The answer is \\boxed{", "9-3="], "000"),
    "no line of this world": (["I think so.", "9 - 3 = 6.", "９-3=6.", "9-3=6. 6+3=9.", "9" * 5000 + "-3=6."], "00000"),
}


@pytest.mark.parametrize("name", CHECKED)
def test_line_must_match_arithmetic_and_the_story(name):
    lines, expected = CHECKED[name]
    assert check_lines(LEO, lines) == [one == "1" for one in expected]


def test_teacher_solutions_are_correct():
    for seed, story in enumerate(distinct_stories(200, seed=3)):
        steps = split_steps(teach(story, seed, flawed=0.0), "\n")
        assert len(steps) >= 4 and all(check_lines(story, steps))


def completion(text: str, rating: int | None) -> dict:
    return {"text": text, "rating": rating, "flagged": None}


def step(*completions: dict, chosen: int | None = 0, human: str | None = None) -> dict:
    written = human and {"text": human, "rating": None, "source": "human", "flagged": False, "corrected_rating": None}
    return {"completions": list(completions), "human_completion": written, "chosen_completion": chosen}


def prm800k_row(*steps: dict, finish_reason: str = "solution") -> dict:
    return {
        "labeler": "340d89bc-f5b7-45e9-b272-909ba68ee363",
        "timestamp": "2023-01-22T04:34:27.052924",
        "generation": 9,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": "What is 2+2?", "ground_truth_answer": "4"},
        "label": {"steps": list(steps), "total_time": 278270, "finish_reason": finish_reason},
    }


A, B = step(completion("a", 1)), step(completion("b", 0))
PRM800K = {
    "a solution": ((A, B, step(completion("c", -1))), [("abc", [1, 0.5, 0])]),
    "steps that were not taken": (
        (A, step(completion("x", -1), completion("b", 1), completion("y", 0), chosen=1), step(completion("c", 1))),
        [("abc", [1, 1, 1]), ("ax", [None, 0]), ("ay", [None, 0.5])],
    ),
    "ends at the first error, with what else was proposed": (
        (A, step(completion("x", -1), completion("b", 0), chosen=None)),
        [("ax", [1, 0]), ("ab", [None, 0.5])],
    ),
    "a step that a person wrote": (
        (step(completion("x", -1), chosen=None, human="h"), B),
        [("hb", [1, 0.5]), ("x", [0])],
    ),
    "a step without a rating": ((A, step(completion("b", None)), step(completion("c", 1))), [("abc", [1, None, 1])]),
    "a last step without anything": ((A, step(chosen=None)), [("a", [1])]),
}


@pytest.mark.parametrize("name", PRM800K)
def test_prm800k_becomes_a_solution_and_one_for_every_other_step(name):
    steps, expected = PRM800K[name]
    found = solutions(prm800k_row(*steps), neutral=0.5)
    assert [("".join(each.steps), list(each.labels)) for each in found] == expected


BAD_PRM800K = {
    "broken problem": (prm800k_row(A, finish_reason="bad_problem"), "the problem is broken"),
    "rating": (prm800k_row(step(completion("a", 2))), "a rating of its step 1 is 2"),
    "choice": (prm800k_row(A, step(completion("b", 1), chosen=1)), "chosen_completion of its step 2 is 1"),
    "negative choice": (prm800k_row(step(completion("b", 1), chosen=-1)), "chosen_completion of its step 1 is -1"),
    "no text": (prm800k_row(step(completion("", 1))), "a completion of its step 1 has no text"),
    "no rating": (prm800k_row(step(completion("a", None))), "none of its steps has a rating"),
    "no steps": (prm800k_row(), "none of its steps has a rating"),
    "another form": ({"question": {"problem": "p"}}, "it has no `label` of PRM800K's form"),
    "no problem": (prm800k_row(A) | {"question": {}}, "its problem is empty"),
    "a step that is none": (prm800k_row("a"), "its step 1 is not an object"),
}


@pytest.mark.parametrize("name", BAD_PRM800K)
def test_bad_row_is_reported_in_a_sentence(name):
    row, sentence = BAD_PRM800K[name]
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        solutions(row, neutral=1.0)


@pytest.mark.parametrize(
    "row, sentence",
    [
        (("", ["a"], [1.0]), "problem is empty"),
        (("p", [], []), "no steps"),
        (("p", ["a"], [1.0, 0.0]), "one label for every step"),
        (("p", ["a", " "], [1.0, 0.0]), "step 2 is empty"),
        (("p", ["a"], [1.5]), "step 1 is 1.5"),
        (("p", ["a"], [float("nan")]), "step 1 is nan"),
        (("p", ["a"], [True]), "step 1 is True"),
        (("p", ["a"], [None]), "none of its steps has a label"),
    ],
)
def test_unusable_rows_are_refused(row, sentence):
    with pytest.raises(ValueError, match=sentence):
        Solution(*row, source="test")


NOT_UNICODE = "is not valid Unicode"
NO_TEXT = [
    ({"problem": "a\ud800"}, f"problem {NOT_UNICODE}"),
    ({"steps": ["a", "b\ud800"]}, f"step 2 {NOT_UNICODE}"),
    ({"problem": "a\0b"}, "problem holds binary data"),
    ({"problem": "1 " * 3_000_000}, "6,000,002 characters"),
    ({"steps": ["1" * 1_500_000] * 2}, "3,000,001 characters"),
]


@pytest.mark.parametrize("changed, sentence", NO_TEXT, ids=[sentence for _, sentence in NO_TEXT])
def test_invalid_unicode_and_huge_texts_are_bad_rows(changed, sentence):
    """They were trained as other texts than the file has, or their tokens were counted for half a minute."""
    row = {"problem": "p", "steps": ["a", "b"], "labels": [1, 0]}
    assert read_solution(row).labels == [1, 0]
    with pytest.raises(ValueError, match=sentence):
        read_solution(row | changed)


def write(path, rows):
    path.write_text("".join(one if isinstance(one, str) else json.dumps(one) + "\n" for one in rows))
    return path


def test_command_labels_attempts_and_skips_bad_rows(tmp_path, capsys):
    stories = distinct_stories(40, seed=1)
    good = [{"problem": one.text, "gold": str(one.answer), "response": teach(one, 0, 0.0)} for one in stories]
    several = {"problem": LEO.text, "gold": 7, "responses": ["9-3=6.\n6+3=8.", "", None, "<think>\n\n</think>"]}
    file = write(
        tmp_path / "attempts.jsonl",
        [
            *good,
            several,
            "{not JSON\n",
            {"gold": "1", "response": "x"},
            {"problem": "2+2?", "gold": "4", "response": "x"},
        ],
    )
    output = tmp_path / "labels"
    flags = ["--source", "tiny-world", "--separator", "\\n", "--heldout", "0.25", "--output", str(output)]
    assert main(["prm", "label", *flags, str(file)]) == 0
    train, heldout = (parquet.read_table(output / f"{part}.parquet").to_pylist() for part in ("train", "heldout"))
    assert len(train) + len(heldout) == 41
    assert {row["problem"] for row in train}.isdisjoint(row["problem"] for row in heldout)
    assert all(is_heldout(row["problem"], 0.25) for row in heldout) and heldout
    (leo,) = (row for row in train + heldout if row["problem"] == LEO.text)
    assert leo == {"problem": LEO.text, "steps": ["9-3=6.", "6+3=8."], "labels": [1.0, 0.0], "source": "tiny-world"}
    rejects = [json.loads(line) for line in (output / "rejects.jsonl").read_text().splitlines()]
    assert [one["place"].removeprefix(f"{file}, ") for one in rejects] == [
        "line 41, response 2", "line 41, response 3", "line 41, response 4", "line 42", "line 43", "line 44",
    ]  # fmt: skip
    assert "rows set aside" in capsys.readouterr().out
    first = (output / "train.parquet").read_bytes()
    assert main(["prm", "label", *flags, str(file)]) == 0
    assert (output / "train.parquet").read_bytes() == first


def test_repeated_solutions_are_written_once_if_asked_for(tmp_path, capsys):
    wrong, right = "9-3=6.\n6+3=8.", "9-3=6.\n6+3=9."
    other = distinct_stories(1, seed=1)[0]
    rows = [
        {"problem": LEO.text, "gold": 9, "responses": [wrong, right, f"<think>\n{wrong}\n</think>"]},
        {"problem": LEO.text, "gold": 9, "response": right},
        {"problem": other.text, "gold": other.answer, "response": wrong},  # the same steps of another problem
    ]
    file = write(tmp_path / "attempts.jsonl", rows)
    flags = ["--source", "tiny-world", "--separator", "\\n", "--json", str(file), "--output"]
    assert main(["prm", "label", *flags, str(tmp_path / "all")]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["train: solutions"] == 5
    assert main(["prm", "label", *flags, str(tmp_path / "distinct"), "--distinct"]) == 0
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert counts["train: solutions"] == 3 and counts["repeated solutions"] == 2
    found = parquet.read_table(tmp_path / "distinct" / "train.parquet").to_pylist()
    assert [(row["problem"], row["steps"][-1]) for row in found] == [
        (LEO.text, "6+3=8."), (LEO.text, "6+3=9."), (other.text, "6+3=8."),
    ]  # fmt: skip


def test_command_reads_prm800k(tmp_path, capsys):
    file = write(tmp_path / "phase2.jsonl", [prm800k_row(A, B), prm800k_row(A, finish_reason="bad_problem")])
    output = tmp_path / "labels"
    flags = ["--source", "prm800k", "--neutral", "0", "--format", "jsonl", "--json", "--output", str(output)]
    assert main(["prm", "label", *flags, str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {
        "train: solutions": 1, "train: labelled steps": 2, "train: of these right": 1, "rows set aside": 1,
    }  # fmt: skip
    (row,) = map(json.loads, (output / "train.jsonl").read_text().splitlines())
    assert row == {"problem": "What is 2+2?", "steps": ["a", "b"], "labels": [1.0, 0.0], "source": "prm800k"}


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--source", "nobody"], "--source nobody: there is none of that name; choose one of monte-carlo, prm800k"),
        (["--source", "prm800k", "--neutral", "2"], "--neutral 2.0: give a label between 0 and 1"),
        (["--source", "prm800k", "--heldout", "1"], "--heldout 1.0: give a share"),
        (["--source", "tiny-world", "--separator", ""], "--separator is empty"),
        (["--source", "monte-carlo"], "--model is missing"),
        (["--source", "monte-carlo", "--model", "/nowhere"], "--model /nowhere: there is no such directory"),
        (["absent.jsonl", "--source", "tiny-world"], "absent.jsonl: there is no such file"),
        (["--source", "tiny-world"], "no row could be labelled: its problem is none of the tiny world's"),
    ],
)
def test_bad_input_is_one_sentence(flags, sentence, tmp_path, capsys):
    file = write(tmp_path / "rows.jsonl", [{"problem": "2+2?", "gold": "4", "response": "x"}])
    assert main(["prm", "label", "--output", str(tmp_path / "out"), str(file), *flags]) == 2
    assert sentence in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("train*"))
