"""Replies that look whole and are not, of servers that answer oddly with status 200."""

import asyncio
import json
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from openrlhf_math.endpoint.client import Client, seconds_asked
from openrlhf_math.endpoint.reply import FailedTry, Failure, parse
from openrlhf_math.endpoint.settings import EndpointSettings
from openrlhf_math.rerank.endpoint_sampler import EndpointModel, EndpointSampler
from openrlhf_math.rerank.roles import Sampling


def body(content="so \\boxed{4}", model="m", usage=None, **choice):
    made = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"} | choice
    return json.dumps({"model": model, "choices": [made], "usage": usage or {"completion_tokens": 5}}).encode()


class Scripted:
    """Gives one body after another, the last one again and again."""

    def __init__(self, *bodies: bytes) -> None:
        left = list(bodies)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                made = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(200)
                self.send_header("Content-Length", str(len(made)))
                self.end_headers()
                self.wfile.write(made)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.settings = EndpointSettings(
            f"http://127.0.0.1:{self._server.server_port}/v1", "", "KEY", 1, None, None, 20.0, 1, {}
        )

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.parametrize(
    "made",
    [
        body(finish_reason="error"),
        body(finish_reason="abort"),
        body(error={"code": 502, "message": "upstream"}),
        body(content=None, finish_reason="tool_calls", message={"content": None, "tool_calls": [{"id": "1"}]}),
        json.dumps({"error": {"message": "overloaded"}}).encode(),
    ],
)
def test_empty_reply_is_requested_again(made):
    with pytest.raises(FailedTry):
        parse(made.decode())


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS", "max_output_tokens", "model_length"])
def test_length_limit_has_several_names(reason):
    assert parse(body(finish_reason=reason).decode())[0].finish_reason == "length"


def test_zero_tokens_for_text_is_not_a_count():
    assert parse(body(usage={"completion_tokens": 0}).decode())[0].tokens is None
    assert parse(body(content="", usage={"completion_tokens": 0}).decode())[0].tokens == 0


@pytest.mark.parametrize(("reason", "finished"), [("content_filter", "length"), ("stop", "eos"), (None, "eos")])
def test_filtered_reply_is_not_complete(reason, finished):
    async def completed() -> str:
        with Scripted(body(finish_reason=reason)) as server:
            sampler = EndpointSampler(EndpointModel("m", server.settings))
            made = await sampler.complete([{"role": "user", "content": "2+2?"}], Sampling(max_tokens=9))
            await sampler.close()
        return made.finished

    assert asyncio.run(completed()) == finished


def asked(times, *bodies):
    async def ask() -> list[str]:
        with Scripted(*bodies) as server:
            async with Client(server.settings, 8) as client:
                return [(await client.ask({"model": "m", "messages": []})).content for _ in range(times)]

    return asyncio.run(ask())


def test_invalid_utf_8_is_not_a_reply():
    with pytest.raises(Failure, match="UTF-8 at byte"):
        asked(1, body().replace(b"so ", b"s\xff "))


def test_model_change_is_logged_once(caplog):
    caplog.set_level(logging.WARNING)
    asked(4, body(model="one"), body(model="one"), body(model="two"), body(model="three"))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and "one" in said[0] and "two" in said[0]


def test_date_without_a_zone_is_utc(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        date = time.strftime("%a, %d %b %Y %H:%M:%S -0000", time.gmtime(time.time() + 30))
        assert 20 < seconds_asked(date) <= 30
    finally:
        monkeypatch.undo()
        time.tzset()
