"""`openrlhf-math grade`: rows in, graded rows out in order, and sentences for bad input."""

import io
import json
import subprocess
import sys

import pytest

from openrlhf_math.cli import main

ROWS = [
    {"gold": "#### 72", "response": r"\boxed{72}", "id": "a"},
    {"gold": r"2\sqrt{3}", "response": r"\boxed{\sqrt{12}}"},
    {"gold": "72", "response": r"\boxed{73}"},
    {"gold": 72, "response": None},
    {"gold": "", "response": r"[bold]\boxed{72}"},
    {"gold": "B", "response": r"\boxed{12}", "problem": "(A) 10 (B) 12"},
]
OUTCOMES = ["correct", "correct", "format", "wrong", "ungraded", "correct"]


def jsonl(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(jsonl(ROWS))
    return file


def test_rows_come_back_in_order(rows, tmp_path, capsys):
    output = tmp_path / "out.jsonl"
    assert main(["grade", str(rows), "--output", str(output), "--workers", "1"]) == 0
    graded = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["outcome"] for row in graded] == OUTCOMES
    assert [row["reward"] for row in graded] == [1.0, 1.0, 0.2, 0.0, 0.0, 1.0]
    assert all(set(row) >= {"gold", "response", "outcome", "reward", "answer", "seconds"} for row in graded)
    assert graded[0]["id"] == "a"
    assert "empty" in graded[4]["reason"]
    printed = capsys.readouterr().out
    assert "50.0%" in printed and "a second" in printed and "slowest" in printed and "ungraded (1)" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl"]


def test_standard_input(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(jsonl(ROWS[:1]).encode())))
    assert main(["grade", "-"]) == 0
    assert "100.0%" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"gold": "5"', "line 2: "),
        ("[1, 2]", "line 2: "),
        ('{"gold": "5"}', "line 2 has no `response`"),
        ('{"response": "5"}', "line 2 has no `gold`"),
        ('{"gold": "5", "response": ["5"]}', "line 2: `response` is"),
        ('{"gold": true, "response": "5"}', "line 2: `gold` is True"),
        ('{"gold": "5", "response": "5", "problem": 7}', "line 2: `problem` is"),
        ("\udcff", "line 2: "),
    ],
)
def test_bad_row_is_named_and_nothing_written(line, message, tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    file.write_bytes((jsonl(ROWS[:1]) + line + "\n").encode("utf-8", "surrogateescape"))
    assert main(["grade", str(file), "--output", str(tmp_path / "out.jsonl")]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["missing.jsonl"], "missing.jsonl cannot be read"),
        (["{rows}", "--output", "/nowhere/out.jsonl"], "--output /nowhere/out.jsonl cannot be written"),
        (["{rows}", "--output", "{folder}"], "is a directory"),
        (["{rows}", "--timeout", "0"], "--timeout 0"),
        (["{rows}", "--workers", "0"], "--workers 0"),
        (["{rows}", "--correct-reward", "nan"], "--correct-reward nan"),
    ],
)
def test_bad_arguments(arguments, message, rows, tmp_path, capsys):
    arguments = [argument.format(rows=rows, folder=tmp_path) for argument in arguments]
    assert main(["grade", *arguments]) == 2
    assert message in capsys.readouterr().err


# What setup.py's install_requires does not bring.
_REST = ("pyarrow", "torch", "ray", "vllm", "transformers", "matplotlib", "jinja2", "sympy", "math_verify", "datasets")
_BASE_ONLY = f"""
import sys
sys.modules.update(dict.fromkeys({_REST!r}))
from openrlhf_math.cli import main
code = main(["grade", sys.argv[1], "--output", sys.argv[2], "--workers", "1"])
code = code or main(["vote", sys.argv[2], "--subsets", "2", "--workers", "1"])
code = code or main(["vote", sys.argv[2], "--plot", sys.argv[2] + ".png"]) != 2
code = code or main(["eval", "--completions", sys.argv[2], "--output", sys.argv[2] + ".run"])
sys.exit(code)
"""


def test_base_installation_suffices(rows, tmp_path):
    """grade, vote and eval of completions run without the stack; a plot, which needs more, says so."""
    command = [sys.executable, "-c", _BASE_ONLY, str(rows), str(tmp_path / "graded.jsonl")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "Traceback" not in found.stderr
