"""One demo run for all integration tests: engines start once a session, not once a test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from openrlhf_math.cli.demo import TINY
from openrlhf_math.colocation import preloaded
from openrlhf_math.colocation.layout import worker_environment


@pytest.fixture(scope="session")
def imports():
    """Where Ray's workers can be forked from one process that has the imports, as those of the demo are."""
    with preloaded.shared(worker_environment("cpu", TINY)):
        yield os.environ.pop(preloaded.PLACE)


@pytest.fixture(scope="module")
def shared_imports(imports):
    """For modules that run commands in this process. Separate commands start as a user's do, so that a test sees
    all their processes below them."""
    os.environ[preloaded.PLACE] = imports
    yield Path(imports)
    os.environ.pop(preloaded.PLACE)


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """The run directory of a short demo: tiny world, SFT, GRPO of 6 steps, evaluations, a PRM of few solutions, votes.

    pytest-xdist's workers share it: the first to ask makes it. DEMO_RUN names one that an earlier session left, for
    work on one test: making it takes minutes.
    """
    if "DEMO_RUN" in os.environ:
        return Path(os.environ["DEMO_RUN"])
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    run_dir, terminal = shared / "demo", shared / "demo.txt"
    with FileLock(shared / "demo.lock"):
        if not terminal.exists():
            short = ("--steps", "6", "--prm-problems", "150")
            command = [sys.executable, "-m", "openrlhf_math", "demo", "--run-dir", str(run_dir), *short]
            result = subprocess.run(command, capture_output=True, text=True, timeout=580)
            assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
            (run_dir / "terminal.txt").write_text(result.stdout)
            terminal.touch()
    return run_dir


@pytest.fixture
def created(monkeypatch) -> list[str]:
    """Names of the actor classes of which groups are created."""
    from openrlhf.cli import train_ppo_ray

    names = []

    class Recorder(train_ppo_ray.RayActorGroup):
        def __init__(self, num_nodes, num_gpus_per_node, ray_actor_type, **kwargs):
            names.append(ray_actor_type.__ray_metadata__.modified_class.__name__)
            super().__init__(num_nodes, num_gpus_per_node, ray_actor_type, **kwargs)

    monkeypatch.setattr(train_ppo_ray, "RayActorGroup", Recorder)
    return names
