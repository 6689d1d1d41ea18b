"""examples/word_problems.py: what a small model is taught and tested on."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_math.rewards import grade

SCRIPT = Path(__file__).parents[2] / "examples" / "word_problems.py"
_spec = importlib.util.spec_from_file_location("word_problems", SCRIPT)
word_problems = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(word_problems)

GSM8K = "She sold 48/2 = <<48/2=24>>24 clips in May.\nTogether 48+24 = <<48+24=72>>72 clips.\n#### 72"


def test_a_worked_solution_is_in_the_style_that_the_grader_wants():
    row = word_problems.worked("How many clips?", GSM8K)
    assert row["response"].startswith("She sold 48/2 = 24 clips in May.\n")
    assert grade(row["response"], "72").reward == 1.0
    assert word_problems.steps(row) == 2


def test_a_solution_in_another_form_is_refused():
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
def test_what_one_operation_solves_can_be_written_down_from_the_answer(problem, answer, step):
    row = word_problems.one_step(problem, answer)
    assert row == (step and word_problems.worked(problem, f"{step}\n#### {answer}"))


def test_nothing_of_the_test_is_learned_or_practised(tmp_path):
    solutions, problems = tmp_path / "solutions.jsonl", tmp_path / "problems.jsonl"
    solutions.write_text("".join(json.dumps({"question": f"s{n}", "answer": GSM8K}) + "\n" for n in range(20)))
    rows = [{"question": f"He has {n + 50} and buys {n + 7}.", "result": str(2 * n + 57)} for n in range(40)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows + rows[:3]))
    command = [sys.executable, SCRIPT, tmp_path / "out", "--solutions", solutions, "--problems", problems]
    subprocess.run([*command, "--worked", "20", "--heldout", "10"], check=True, capture_output=True)
    parts = {
        name: {json.loads(line)["problem"] for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()}
        for name in ("worked", "train", "heldout")
    }
    assert {name: len(part) for name, part in parts.items()} == {"worked": 20, "train": 20, "heldout": 10}
    assert not parts["heldout"] & (parts["worked"] | parts["train"])
    assert not parts["worked"] & parts["train"]
