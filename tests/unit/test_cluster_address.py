"""Starting or joining a Ray cluster: what cannot be had is one sentence, soon."""

import socket

import pytest
import ray

from openrlhf_math.colocation.cluster import join_cluster, start_or_join
from openrlhf_math.errors import UserError


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_address_without_a_cluster_is_reported(monkeypatch, form):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = form.format(free.getsockname()[1])
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UserError) as refused:
            join_cluster()
    assert address in str(refused.value) and "unset" in str(refused.value)


def test_without_an_address_a_local_cluster_starts(monkeypatch):
    """`ray.init()` would join whatever cluster `ray start` left on this machine, and refuse a number of CPUs."""
    asked = {}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options))
    start_or_join({"num_cpus": 3}, log_to_driver=False)
    assert asked == {"address": "local", "include_dashboard": False, "num_cpus": 3, "log_to_driver": False}


def test_ray_start_failure_is_one_sentence(monkeypatch):
    def failing(**options):
        raise Exception("The current node timed out during startup.\nThis could happen because ...")  # Ray's own class

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", failing)
    with pytest.raises(UserError) as refused:
        start_or_join({})
    assert "timed out during startup" in str(refused.value) and "\n" not in str(refused.value)
