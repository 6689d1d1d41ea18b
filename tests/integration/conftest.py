"""One demo run for all integration tests: engines start once a session, not once a test."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """The run directory of a short demo: tiny world, SFT, GRPO of 6 steps, evaluations."""
    run_dir = tmp_path_factory.mktemp("demo") / "run"
    command = [sys.executable, "-m", "openrlhf_math", "demo", "--run-dir", str(run_dir), "--steps", "6"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    (run_dir / "terminal.txt").write_text(result.stdout)
    return run_dir
