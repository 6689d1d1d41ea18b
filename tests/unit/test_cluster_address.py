"""RAY_ADDRESS where no cluster answers: one sentence, soon."""

import socket

import pytest

from openrlhf_math.colocation.cluster import join_cluster
from openrlhf_math.errors import UserError


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_without_a_cluster_is_named(monkeypatch, form):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = form.format(free.getsockname()[1])
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UserError) as refused:
            join_cluster()
    assert address in str(refused.value) and "unset" in str(refused.value)
