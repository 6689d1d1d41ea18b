"""Why an engine died is read where its actor left it: once, and not for a death that left nothing."""

import os
import signal
import time

import pytest
import ray

from openrlhf_math.colocation.engine_life import take_cause


@pytest.fixture(scope="module")
def actor():
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)

    class Engine:
        def pid(self) -> int:
            return os.getpid()

        def does_not_start(self) -> None:
            from openrlhf_math.colocation.engine_life import leave_cause

            leave_cause(RuntimeError("the vLLM engine did not start: no room"))

        def dies(self, error: str) -> None:
            from openrlhf_math.colocation.engine_life import end_actor

            print(f"(EngineCore pid=7) ERROR 11-28 15:00:19 [core.py:1376] {error}", flush=True)
            end_actor()

    yield ray.remote(max_restarts=-1)(Engine).remote()
    ray.shutdown()


def pid_of(actor) -> int:
    """Of the process that runs now, or is started again."""
    end = time.monotonic() + 120
    while True:
        try:
            return ray.get(actor.pid.remote())
        except ray.exceptions.RayActorError:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_each_death_reports_its_cause(actor):
    name = actor._actor_id.hex()
    ray.get(actor.does_not_start.remote())
    assert take_cause(name) == "the vLLM engine did not start: no room"
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(actor.dies.remote("RuntimeError: Unexpected head dim size, 32"))
    second = pid_of(actor)
    os.kill(second, signal.SIGKILL)
    while pid_of(actor) == second:
        time.sleep(0.1)
    assert take_cause(name) == "RuntimeError: Unexpected head dim size, 32"
    os.kill(pid_of(actor), signal.SIGKILL)
    assert take_cause(name) == ""
