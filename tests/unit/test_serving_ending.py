"""How `serve` ends: at a signal, with requests under way, and at a second one."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from faulty_endpoint import FaultyEndpoint

from openrlhf_math.data.tiny_world.problems import distinct_stories

PROBLEM = distinct_stories(1, seed=3)[0].text


@contextlib.contextmanager
def served(endpoint: str, *flags: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """The process and its address."""
    command = [
        sys.executable, "-m", "openrlhf_math", "serve", "--model", "tiny", "--base-url", endpoint, "--port", "0",
        "--attempts", "3", "--attempt-concurrency", "3", "--seconds", "200", "--workers", "1", "--no-early-stop",
        *flags,
    ]  # fmt: skip
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def ask(url: str, replies: list, **fields) -> threading.Thread:
    def run() -> None:
        body = {"messages": [{"role": "user", "content": PROBLEM}], **fields}
        replies.append(httpx.post(f"{url}/chat/completions", json=body, timeout=200))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def until(condition) -> None:
    end = time.monotonic() + 120
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def own_lines(error: str) -> list[str]:
    """Without the warnings of libraries, such as torch's where a CUDA toolkit is installed and no GPU is there."""
    return [line for line in error.splitlines() if line.startswith("openrlhf-math")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_idle_server_ends_with_one_line(number):
    with FaultyEndpoint() as endpoint, served(endpoint.url) as (process, url):
        assert httpx.get(f"{url}/models").status_code == 200
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 0 and len(own_lines(error)) == 1 and "Traceback" not in error


@pytest.mark.parametrize(("answered", "stream"), [(2, True), (0, False)])
def test_requests_under_way_end_with_what_they_have(answered, stream):
    """The endpoint answers some attempts and hangs at the others."""
    fault = lambda number, question: "" if number <= answered else "hang"  # noqa: E731
    replies: list[httpx.Response] = []
    with FaultyEndpoint(fault) as endpoint, served(endpoint.url) as (process, url):
        thread = ask(url, replies, stream=stream)
        until(lambda: endpoint.requests == 3)
        time.sleep(0.5)  # for the answered ones to be counted
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        thread.join(10)
    (reply,) = replies
    assert process.returncode == 0 and len(own_lines(error)) == 1 and "Traceback" not in error
    if answered:
        assert reply.status_code == 200 and '"interrupted"' in reply.text
        assert not stream or reply.text.endswith("data: [DONE]\n\n")
    else:
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "unavailable")


def test_second_signal_ends_at_once(tmp_path):
    """A client that sends its request slowly would hold the server for seconds."""
    with FaultyEndpoint() as endpoint, served(endpoint.url) as (process, url):
        host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 1000\r\n\r\n{"
            )
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=4)
    assert process.returncode == 130


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_server_listens_at_an_address_of_ipv6(host):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with FaultyEndpoint() as endpoint, served(endpoint.url, "--host", host) as (process, url):
        assert url.startswith("http://[::1]:") and httpx.get(f"{url}/models").status_code == 200
