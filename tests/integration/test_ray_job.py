"""The job script against a real Ray head, as on a cluster."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
import pytest

from openrlhf_math.colocation.layout import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
BIN = Path(sys.executable).parent


def wait_for_agent(environment: dict) -> None:
    """`ray start` comes back before its agent, which starts the jobs, is there."""
    end = time.monotonic() + 200
    while subprocess.run([BIN / "ray", "job", "submit", "--no-wait", "--", "true"], env=environment).returncode:
        assert time.monotonic() < end, "the agent does not come"
        time.sleep(1)


@pytest.fixture(scope="module")
def head():
    """The dashboard address of a separate Ray head, with one logical device."""
    dashboard = free_port()
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    # In /tmp, for the path of a Unix socket is 107 bytes at most.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as directory:
        subprocess.run(
            [BIN / "ray", "start", "--head", "--num-gpus=1", "--num-cpus=8", f"--port={free_port()}",
             f"--temp-dir={directory}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
             "--include-dashboard=true",
             f"--dashboard-agent-listen-port={free_port()}"],  # any other Ray of this machine has the default
            check=True, env=environment,
        )  # fmt: skip
        environment["RAY_ADDRESS"] = f"http://127.0.0.1:{dashboard}"
        try:
            wait_for_agent(environment)
            yield environment
        finally:
            for process in psutil.process_iter(["cmdline"]):  # `ray stop` would also end those of concurrent tests
                if any(directory in argument for argument in process.info["cmdline"] or ()):
                    process.kill()


@pytest.mark.slow
def test_submitted_job_trains(head, demo, tmp_path):
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


@pytest.mark.slow
def test_submitted_job_serves_scored_answers(head, demo):
    port = free_port()
    submitted = subprocess.run(
        [BIN / "ray", "job", "submit", "--no-wait", "--submission-id", "serve", "--",
         "openrlhf-math", "serve", "--model", demo / "grpo" / "model", "--instruction", "''", "--style", "think",
         "--scorer", "qwen2.5-math-prm", "--scorer-model", demo / "prm" / "run" / "model", "--separator", "'\\n'",
         "--max-context", "256", "--max-tokens", "128", "--attempts", "4", "--workers", "1", "--port", str(port)],
        env=head, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    row = json.loads((demo / "world" / "heldout.jsonl").read_text().splitlines()[0])
    try:
        wait_for_health(port, head)
        reply = httpx.post(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            json={"messages": [{"role": "user", "content": row["problem"]}], "openrlhf_math": {"rule": "weighted"}},
            timeout=60,
        ).json()
    finally:
        subprocess.run([BIN / "ray", "job", "stop", "serve"], env=head, check=True, capture_output=True, timeout=120)
    attempts = reply["openrlhf_math"]["attempts"]
    assert attempts and all(0 <= score <= 1 for one in attempts for score in one["scores"])


def wait_for_health(port: int, environment: dict[str, str], seconds: float = 200.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return
        time.sleep(0.5)
    log = subprocess.run([BIN / "ray", "job", "logs", "serve"], env=environment, capture_output=True, text=True)
    raise AssertionError(log.stdout[-3000:] + log.stderr[-1000:])
