"""A cluster in miniature: a head without devices and two nodes with one each, as separate processes on one machine.

A GRPO run is submitted as a job, its policy on one node and its engine on the other. The policy's node is killed while
it trains; the job ends. The node joins again, and the same job resumes.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from openrlhf_math.colocation.layout import free_port

BIN = Path(sys.executable).parent
POLICY, ENGINE = "PolicyModelActor", "RolloutRayActor"  # Ray calls a subclass by the name of its upstream's
STEPS = 30
KILLED_AFTER = 3  # steps
PROMPT_SECONDS = 120  # from the kill to the end of the job, on a busy machine


class Cluster:
    """Ray's own commands. address: of the head; dashboard: its HTTP address."""

    def __init__(self, directory: str) -> None:
        self.directory, self.nodes = directory, {}
        self.environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "RAY_DISABLE_IMPORT_WARNING": "1"}
        port, dashboard, self.metrics_port = free_port(), free_port(), free_port()
        self.address, self.dashboard = f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"

    def start_head(self) -> None:
        port, dashboard = (address.rpartition(":")[2] for address in (self.address, self.dashboard))
        self._ray(
            "--head", f"--port={port}", "--num-gpus=0", "--num-cpus=2", f"--temp-dir={self.directory}",
            f"--ray-client-server-port={free_port()}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
            f"--metrics-export-port={self.metrics_port}",
        ).wait()  # fmt: skip
        self.until(lambda: self._asked("nodes"), "the head does not answer")

    def join(self, name: str) -> None:
        """A node with one device, which has a resource of its name.

        Ray may still schedule on a node that was killed, until it has missed its health checks.
        """
        self.until(lambda: not self.node_id(name), f"Ray does not notice that {name} is dead")
        resources = json.dumps({name: 1})
        self.nodes[name] = self._ray(
            "--block", f"--address={self.address}", "--num-gpus=1", "--num-cpus=2", f"--resources={resources}"
        )
        self.until(lambda: self.node_id(name), f"{name} does not join")

    def kill(self, name: str) -> None:
        """As a power cut: what `ray start --block` has started goes with it."""
        process = self.nodes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for process in self.nodes.values():
            process.terminate()
            process.wait(timeout=60)
        for process in psutil.process_iter(["cmdline"]):  # `ray stop` would end other clusters' processes, too
            if any(self.directory in argument for argument in process.info["cmdline"] or ()):
                process.kill()

    def _ray(self, *flags: str) -> subprocess.Popen:
        """`ray start`. What Ray would give a fixed port gets a free one: the machine may have other clusters."""
        agent = f"--dashboard-agent-listen-port={free_port()}"
        command = [BIN / "ray", "start", "--object-store-memory=200000000", agent, *flags]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL)

    def node_id(self, name: str) -> str | None:
        """Of the living node of that name."""
        nodes = self._asked("nodes")
        return next(
            (node["node_id"] for node in nodes if node["state"] == "ALIVE" and name in node["resources_total"]), None
        )

    def node_of(self, actor_class: str) -> str | None:
        actors = self._asked("actors")
        return next(
            (each["node_id"] for each in actors if each["class_name"] == actor_class and each["state"] == "ALIVE"), None
        )

    def _asked(self, what: str) -> list[dict]:
        """Of Ray's state API; nothing while the head does not answer."""
        with suppress(OSError), urllib.request.urlopen(f"{self.dashboard}/api/v0/{what}?detail=true") as answer:
            return json.load(answer)["data"]["result"]["result"]
        return []

    def metrics(self) -> dict[str, float]:
        """Our gauges at the head's Prometheus endpoint, where the controller runs."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=60) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            samples = [sample for family in families for sample in family.samples if "openrlhf_math" in sample.name]
        return {f"{one.name} {one.labels.get('phase', one.labels['run'])}": one.value for one in samples}

    def job(self, *words: object) -> subprocess.CompletedProcess:
        """`ray job ...`"""
        command = [BIN / "ray", "job", words[0], "--address", self.dashboard, *words[1:]]
        return subprocess.run(
            list(map(str, command)), env=self.environment, capture_output=True, text=True, timeout=300
        )

    def ended(self, job: str) -> str | None:
        """The status that a job ended with; None while it runs."""
        status = self.about(job)["status"]
        return status if status in ("SUCCEEDED", "FAILED", "STOPPED") else None

    def about(self, job: str) -> dict:
        """What the dashboard tells of a job: its status, exit code and the message of the supervisor."""
        with urllib.request.urlopen(f"{self.dashboard}/api/jobs/{job}", timeout=60) as answer:
            return json.load(answer)

    def wait(self, job: str, seconds: float) -> str:
        return self.until(lambda: self.ended(job), f"job {job} does not end", seconds)

    @staticmethod
    def until(found, otherwise: str, seconds: float = 240.0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := found():
                return value
            time.sleep(0.5)
        raise AssertionError(otherwise)


@pytest.fixture(scope="module")
def cluster():
    # In /tmp, for the path of a Unix socket is 107 bytes at most.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as directory:
        cluster = Cluster(directory)
        try:
            cluster.start_head()
            cluster.join("node_a")
            cluster.join("node_b")
            yield cluster
        finally:
            cluster.stop()


def grpo(demo, run_dir, *more: str) -> list[object]:
    """A run with one device for the policy and one for the engine."""
    return [
        "--", "openrlhf-math", "grpo", "--actor.model_name_or_path", demo / "sft" / "model",
        "--data.prompt_dataset", demo / "world" / "train.jsonl", "--data.max_samples", str(STEPS * 8),
        "--math.run_dir", run_dir, "--math.instruction", "''", "--math.answer_style", "think",
        "--rollout.batch_size", "8", "--rollout.n_samples_per_prompt", "4", "--data.max_len", "256",
        "--rollout.max_new_tokens", "64", "--no-train.colocate_all", "--ckpt.save_steps", "2", *more,
    ]  # fmt: skip


def steps(run_dir: Path) -> list[int]:
    path = run_dir / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def story(cluster, demo, tmp_path_factory) -> SimpleNamespace:
    """What happened, from the first submission to the end of the second."""
    run_dir, result = tmp_path_factory.mktemp("cluster") / "run", SimpleNamespace()
    submitted = cluster.job("submit", "--no-wait", "--submission-id", "first", *grpo(demo, run_dir))
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    cluster.until(lambda: len(steps(run_dir)) >= KILLED_AFTER or cluster.ended("first"), "no step is done", 400)
    assert not cluster.ended("first"), cluster.job("logs", "first").stdout[-3000:]
    result.nodes = {name: cluster.node_id(name) for name in ("node_a", "node_b")}
    result.actors = {name: cluster.node_of(name) for name in (POLICY, ENGINE)}
    result.metrics = cluster.until(cluster.metrics, "no gauge of ours at the endpoint", 60)
    victim = next(name for name, node in result.nodes.items() if node == result.actors[POLICY])
    assert len(steps(run_dir)) < STEPS, "it had ended before the node was killed"
    cluster.kill(victim)
    killed = time.monotonic()
    result.first = cluster.wait("first", 300)
    result.seconds = time.monotonic() - killed
    result.logs, result.done = cluster.job("logs", "first").stdout, steps(run_dir)
    cluster.join(victim)
    submitted = cluster.job(
        "submit", "--no-wait", "--submission-id", "second", *grpo(demo, run_dir, "--ckpt.load_enable")
    )
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    result.second = cluster.wait("second", 400)
    result.more_logs, result.steps, result.run_dir = cluster.job("logs", "second").stdout, steps(run_dir), run_dir
    result.about_second = cluster.about("second")
    return result


def test_policy_and_engine_run_on_separate_nodes(story):
    assert set(story.actors.values()) == set(story.nodes.values())


def test_gauges_appear_at_rays_prometheus_endpoint(story):
    assert 1 <= story.metrics["ray_openrlhf_math_step run"] <= STEPS  # Ray hands values on every ten seconds
    assert story.metrics["ray_openrlhf_math_steps run"] == STEPS
    assert 0 <= story.metrics["ray_openrlhf_math_reward run"] <= 1
    assert story.metrics["ray_openrlhf_math_phase_seconds generation"] > 0


def test_job_log_contains_the_steps(story):
    assert f"step  1/{STEPS} reward" in story.logs


def test_lost_node_ends_the_job_with_its_cause(story):
    assert story.first == "FAILED"
    assert story.seconds < PROMPT_SECONDS, f"{story.seconds:.0f} s"
    end = story.logs[story.logs.index("openrlhf-math grpo: ") :]
    assert re.search("Actor(Died|Unavailable)Error", end), end
    assert "resume with: openrlhf-math grpo" in end and "--ckpt.load_enable" in end


def test_run_resumes_from_checkpoint_after_the_node_returns(story):
    assert story.second == "SUCCEEDED", f"{story.about_second}\n{story.more_logs[-3000:]}"
    assert f"step  1/{STEPS}" not in story.more_logs and f"step {STEPS}/{STEPS}" in story.more_logs
    assert story.steps == list(range(1, STEPS + 1))
    assert (story.run_dir / "model" / "model.safetensors").exists()
