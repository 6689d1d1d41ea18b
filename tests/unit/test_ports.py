"""Ports for what is bound seconds later, while Ray opens hundreds of connections."""

import socket

import pytest

from openrlhf_math.colocation.layout import bindable, free_port


def test_no_connection_takes_a_free_port_before_it_is_bound():
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first, last = map(int, file.read().split())
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) > 40
    if first > 32767:  # the default of Linux
        assert not any(first <= port <= last for port in ports)
    assert all(port > 19999 for port in ports)  # Ray's workers listen below


def test_used_port_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError):
        bindable("127.0.0.1", taken.getsockname()[1])


def test_addresses_of_ipv6_can_be_listened_on():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken, pytest.raises(OSError):
            bindable("::1", taken.getsockname()[1])
    except OSError:
        pytest.skip("no IPv6 here")
    assert free_port("::1") > 19999
