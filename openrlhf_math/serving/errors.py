"""Errors in OpenAI's form: of the app, and of Ray Serve's proxy.

Where a replica dies, the proxy sends nothing and uvicorn a plain text.
"""

import json
import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ApiError(Exception):
    """Ends a request; the app makes a response of it.

    status: of HTTP. param: the field at fault, as a path. code: for programs.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def body(self) -> dict:
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class ClientLeft(Exception):
    """No client waits for the answer any more."""


class ErrorsInForm:
    """ASGI middleware of the proxy: a request whose app sends no response, or raises, or has one of 500 or more that is
    not JSON, gets 503. A stream of events that breaks off ends with an event that says so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = ended = replaced = events = False

        async def passed(message: Message) -> None:
            nonlocal begun, ended, replaced, events
            if message["type"] == "http.response.start":
                kind = _kind(message)
                replaced = message["status"] >= 500 and not kind.startswith(b"application/json")
                events = kind.startswith(b"text/event-stream")
                begun = not replaced
            elif message["type"] == "http.response.body":
                ended = ended or not message.get("more_body", False)
            if not replaced:
                await send(message)

        try:
            await self._app(scope, receive, passed)
        except Exception:
            logging.exception("the proxy failed")
        if not begun:
            await _respond(send)
        elif events and not ended:
            await send({"type": "http.response.body", "body": b"data: " + _body() + b"\n\n"})


def _body() -> bytes:
    error = ApiError(503, "the server's replica died and starts again: send the request again", code="unavailable")
    return json.dumps(error.body()).encode()


async def _respond(send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _body()})


def _kind(message: Message) -> bytes:
    headers = {bytes(name).lower(): bytes(value) for name, value in message.get("headers", ())}
    return headers.get(b"content-type", b"")
