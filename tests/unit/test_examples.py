"""The example scripts parse, and the GPU ones resolve to what they are meant to ask for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

ASKED_FOR = {
    "grpo_qwen2.5_1.5b_gsm8k.sh": ("devices: 8 (cuda), training and inference take turns", "reference model: none"),
    "grpo_r1_distill_7b.sh": ("devices: 8 (cuda), training and inference take turns", "ZeRO-3"),
    "grpo_qwen2.5_32b_multinode.sh": ("devices: 32 (cuda), training and inference take turns", "ZeRO-3"),
    "sft_qwen2.5_32b_multinode.sh": ("processes: 32 (cuda)", "ZeRO-3", "packed into one", "model states: 3.7 GiB"),
    "prm_qwen2.5_math_7b.sh": ("processes: 8 (cuda)", "ZeRO-3", "one row without padding", "model states: 13.0 GiB"),
}


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.sh")))
def test_script_is_executable_and_parses(script):
    assert os.access(EXAMPLES / script, os.X_OK)
    subprocess.run(["bash", "-n", EXAMPLES / script], check=True)


@pytest.mark.parametrize("script", ASKED_FOR)
def test_gpu_script_resolves(script, tmp_path):
    result = subprocess.run(
        [EXAMPLES / script, "--dry-run"], capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT
    )
    assert result.returncode == 0, result.stderr
    for part in ASKED_FOR[script]:
        assert part in result.stdout
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"
