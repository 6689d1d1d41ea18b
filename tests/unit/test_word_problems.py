"""examples/word_problems.py: what a small model is taught and tested on."""

import importlib.util
import json
import random
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from openrlhf_math.rewards import grade

SCRIPT = Path(__file__).parents[2] / "examples" / "word_problems.py"
_spec = importlib.util.spec_from_file_location("word_problems", SCRIPT)
word_problems = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(word_problems)

GSM8K = "She sold 48/2 = <<48/2=24>>24 clips in May.\nTogether 48+24 = <<48+24=72>>72 clips.\n#### 72"


def test_worked_solution_is_its_equations_in_the_style_that_the_grader_wants():
    row = word_problems.worked("How many clips?", GSM8K)
    assert row["response"].startswith("48 / 2 = 24\n48 + 24 = 72\n")
    assert grade(row["response"], "72").reward == 1.0
    assert len(word_problems.steps(row)) == 2
    assert word_problems.leads_to_its_answer(row)
    plain = word_problems.worked("How many?", "Half of 48 is 24.\n#### 24")
    assert plain["response"].startswith("Half of 48 is 24.\n")
    assert not word_problems.leads_to_its_answer(word_problems.worked("How many?", "9*3=<<9*3=27>>27\n#### 7.5"))


@pytest.mark.parametrize(("note", "written"), [("-3+5=2", "-3 + 5 = 2"), ("50%*(4 +2)=3", "50% * (4 + 2) = 3")])
def test_notes_have_spaces_around_operators(note, written):
    assert word_problems.steps(word_problems.worked("?", f"<<{note}>>\n#### 3")) == [written]


def test_sums_are_correct_and_in_integers_or_cents():
    rng = random.Random(1)
    for _ in range(200):
        row = word_problems.sums(rng)
        *equations, last = row["response"].splitlines()
        results = []
        for equation in equations:
            left, right = equation.split(" = ")
            assert eval(re.sub(r"[\d.]+", lambda match: f"Fraction('{match[0]}')", left)) == Fraction(right) >= 0
            assert left in row["problem"]
            results.append(right)
        assert last == f"The answer is \\boxed{{{', '.join(results)}}}."
        assert all(len(number.partition(".")[2]) <= 2 for number in re.findall(r"[\d.]+\d", row["response"]))


def test_solution_in_another_form_is_refused():
    with pytest.raises(ValueError, match="no ####"):
        word_problems.worked("How many?", "It is 72.")


@pytest.mark.parametrize(
    ("problem", "answer", "step"),
    [
        ("He has 70 and 27 are left.", "43", "70 - 27 = 43"),
        ("27 are left of 70.", "43", "70 - 27 = 43"),
        ("Cakes cost 1.5 dollars, 4 of them.", "6.0", "1.5 * 4 = 6.0"),
        ("12 cookies for 4 friends.", "3", "12 / 4 = 3"),
        ("2 boxes of 2.", "4", None),  # both 2 + 2 and 2 * 2
        ("3 boxes of 4 and 2 more.", "14", None),
        ("10 of 4.", "7", None),
        ("0 of 5.", "3", None),
    ],
)
def test_one_operation_problems_follow_from_the_answer(problem, answer, step):
    row = word_problems.one_step(problem, answer)
    assert row == (step and word_problems.worked(problem, f"{step}\n#### {answer}"))


def test_problems_that_differ_in_numbers_and_names_have_the_same_words():
    one = word_problems.words("Oliver had 3 cards , and 10 old ones . How many would he put in Oliver 's binder ?")
    assert one == word_problems.words("Anna had 4.50 cards, and 1 old ones. How many would she put in Anna's binder?")
    assert one != word_problems.words("Anna had 4.50 cards, and 1 old ones. How many would she put in Anna's box?")


def test_test_problems_are_not_in_training_sets(tmp_path):
    solutions, problems = tmp_path / "solutions.jsonl", tmp_path / "problems.jsonl"
    solutions.write_text("".join(json.dumps({"question": f"s{n}", "answer": GSM8K}) + "\n" for n in range(20)))
    things = [
        a + b for a in ("red", "green", "blue", "white") for b in (" apple", " stone", " brick", " ship", " coat")
    ]
    rows = [
        {"question": f"{who} has {n + 50} of each {thing} and then buys {n + 7} more.", "result": str(2 * n + 57)}
        for n, thing in enumerate(things)
        for who in ("Ann", "Ben")
    ]
    long = {"question": "He ran 0.3333333 of a mile and then 2.", "result": "2.3333333"}
    problems.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *rows[:3], long]))
    command = [sys.executable, SCRIPT, tmp_path / "out", "--solutions", solutions, "--problems", problems]
    sizes = ["--worked", "10", "--sums", "5", "--one-step", "6", "--heldout", "8"]
    subprocess.run([*command, *sizes], check=True, capture_output=True)
    parts = {
        name: {json.loads(line)["problem"] for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()}
        for name in ("worked", "train", "heldout")
    }
    assert [len(parts[name]) for name in ("worked", "heldout")] == [21, 8]
    kinds = {name: {word_problems.words(problem) for problem in part} for name, part in parts.items()}
    assert len(kinds["heldout"]) == 8
    assert not kinds["heldout"] & (kinds["worked"] | kinds["train"])
    assert parts["train"]
    assert len(parts["worked"] & parts["train"]) == 6
    assert long["question"] not in set().union(*parts.values())
