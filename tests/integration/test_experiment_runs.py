"""`openrlhf-math experiments speed` on the real engine; what surrounds it is in tests/unit/test_experiments.py."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SAMPLING = ("--instruction", "", "--samples", "4", "--temperature", "1", "--max-tokens", "128")


def test_timed_completions_are_those_of_the_evaluation(demo, tmp_path):
    output = tmp_path / "speed.json"
    where = ("--model", demo / "sft" / "model", "--benchmark", demo / "world" / "heldout.jsonl", "--output", output)
    words = [sys.executable, "-m", "openrlhf_math", "experiments", "speed", *map(str, where), *SAMPLING]
    result = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-4000:]
    shown = json.loads(output.read_text())
    graded = json.loads((demo / "eval_before" / "summary.json").read_text())
    assert shown["completions"] == graded["problems"] * graded["samples"] == 1200
    # Numbers in bfloat16 depend a little on what else is in the batch.
    assert shown["tokens"] / shown["completions"] == pytest.approx(graded["completion_tokens"], rel=0.02)
    assert shown["seconds"] > 0
