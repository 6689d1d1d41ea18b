"""The job script against a real Ray head, as on a cluster."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def head(tmp_path):
    """The dashboard address of a Ray head of its own, with one logical device."""
    dashboard, gcs = free_port(), free_port()
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    subprocess.run(
        [BIN / "ray", "start", "--head", "--num-gpus=1", "--num-cpus=4", f"--port={gcs}",
         "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--include-dashboard=true"],
        check=True, env=environment,
    )  # fmt: skip
    yield environment | {"RAY_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    subprocess.run([BIN / "ray", "stop", "--force"], check=True)


def test_a_submitted_job_trains(head, demo, tmp_path):
    run_dir = tmp_path / "run"
    result = subprocess.run(
        [EXAMPLES / "submit_ray_job.sh", "openrlhf-math", "grpo",
         "--actor.model_name_or_path", demo / "sft" / "model",
         "--data.prompt_dataset", demo / "world" / "train.jsonl", "--data.max_samples", "16",
         "--math.run_dir", run_dir, "--math.instruction", "''", "--math.answer_style", "think",
         "--rollout.batch_size", "8", "--rollout.n_samples_per_prompt", "4",
         "--data.max_len", "256", "--rollout.max_new_tokens", "64"],
        env=head, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "succeeded" in result.stdout
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 2
    assert (run_dir / "model" / "model.safetensors").exists()
