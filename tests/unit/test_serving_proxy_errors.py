"""What Ray Serve's proxy says by itself becomes an error in OpenAI's form; what the app says passes as it is."""

import asyncio
import json

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from openrlhf_math.serving.errors import ErrorsInForm


def ask(response) -> httpx.Response:
    async def run():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=ErrorsInForm(response))) as client:
            return await client.get("http://test/")

    return asyncio.run(run())


def test_plain_text_proxy_error_has_the_openai_error_form():
    reply = ask(PlainTextResponse("Internal Server Error", 500))
    assert reply.status_code == 503 and reply.headers["retry-after"] == "1"
    assert reply.json()["error"].keys() == {"message", "type", "param", "code"}
    assert reply.json()["error"]["code"] == "unavailable"


def test_proxy_exception_has_the_openai_error_form():
    async def fails(scope, receive, send):
        raise ZeroDivisionError

    assert ask(fails).json()["error"]["code"] == "unavailable"


@pytest.mark.parametrize(
    "response", [JSONResponse({"error": "x"}, 500), PlainTextResponse("metrics", 200), JSONResponse({}, 404)]
)
def test_app_replies_pass_unchanged(response):
    reply = ask(response)
    assert (reply.status_code, reply.content) == (response.status_code, response.body)


def test_missing_proxy_reply_has_the_openai_error_form():
    async def silent(scope, receive, send):
        pass

    reply = ask(silent)
    assert reply.status_code == 503 and reply.json()["error"]["code"] == "unavailable"


def test_stream_that_breaks_off_ends_with_an_error():
    async def breaks(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})

    first, last = ask(breaks).text.strip().split("\n\n")
    assert first == "data: 1"
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "unavailable"
