"""tests/gpu/run.sh on this machine's CPU, with small sizes: its parts work where no GPU is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "gpu" / "run.sh"


def proof(out: Path, *more: str) -> tuple[int, dict, str]:
    """Exit code, JSON and Markdown."""
    command = [SCRIPT, out, "--device", "cpu", "--small", *more]
    result = subprocess.run(command, env=os.environ | {"PYTHON": sys.executable}, timeout=580)
    return result.returncode, json.loads((out / "gpu.json").read_text()), (out / "gpu.md").read_text()


@pytest.mark.slow
def test_families_and_long_context(tmp_path):
    code, report, text = proof(tmp_path, "--part", "families-fp32", "long-context")
    assert code == 0
    assert list(report["parts"]) == ["families-fp32", "long-context"]
    rows = report["parts"]["families-fp32"]["result"]
    assert [row["path"] for row in rows] == ["shared", "shared"]
    ways = report["parts"]["long-context"]["result"][0]["ways"]
    assert all(found["seconds"] > 0 for found in ways.values()) and set(ways) == {"matrices", "packed", "fused"}
    assert "| qwen2 |" in text and "| 64 |" in text


def test_failed_part_is_recorded_and_the_next_part_runs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import proof as parts

    script = tmp_path / "part.py"
    script.write_text("import json, sys, time\ntime.sleep(float(sys.argv[1]))\njson.dump([], open(sys.argv[3], 'w'))\n")
    fails = parts.Part("fails", [tmp_path / "missing.py"], 20, lambda found: None)
    hangs = parts.Part("hangs", [script, 60], 1, lambda found: None)
    differs = parts.Part("differs", [script, 0], 20, lambda found: "differs")
    runs = parts.Part("runs", [script, 0], 20, lambda found: None)
    monkeypatch.setattr(parts, "parts_of", lambda device, small: [fails, hangs, differs, runs])
    monkeypatch.setattr(sys, "argv", ["run.sh", str(tmp_path / "out"), "--device", "cpu"])
    assert parts.main() == 1
    report = json.loads((tmp_path / "out" / "gpu.json").read_text())
    errors = {name: part["error"] for name, part in report["parts"].items()}
    assert errors["fails"].startswith("exit code 2") and errors["hangs"] == "not done after 1 s"
    assert errors["runs"] is None and errors["differs"] == "differs" and report["parts"]["hangs"]["seconds"] < 10


@pytest.mark.slow
def test_training_step_and_a_grpo_run(tmp_path):
    code, report, _ = proof(tmp_path, "--part", "step", "grpo")
    assert code == 0
    ways = report["parts"]["step"]["result"][0]["ways"]
    assert ways["packed"]["path"] == "shared" and ways["packed"]["probe_seconds"] > 0
    assert len(report["parts"]["grpo"]["result"]["steps"]) == 1
