"""Who may ask: with a key, only those who send it."""

import hashlib
import hmac
import json

from starlette.types import ASGIApp, Receive, Scope, Send

from openrlhf_math.serving.errors import ApiError

OPEN = ("/health",)  # which tells nothing, and load balancers send no key
SCHEME = "bearer "


def digest(key: str) -> bytes:
    """What the server keeps of a key: SHA-256. The key itself is in no process but the command's."""
    return hashlib.sha256(key.encode()).digest()


class RequiresKey:
    """ASGI middleware: status 401 for a client that sends no `Authorization: Bearer KEY`, or another key.

    expected: of `digest`.
    """

    def __init__(self, app: ASGIApp, expected: bytes) -> None:
        self._app, self._expected = app, expected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope.get("path") in OPEN or self._allows(scope):
            await self._app(scope, receive, send)
            return
        error = ApiError(401, "send the server's key: Authorization: Bearer KEY", code="invalid_api_key")
        body = json.dumps(error.body()).encode()
        headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _allows(self, scope: Scope) -> bool:
        sent = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        if len(sent) != 1 or not sent[0].lower().startswith(SCHEME):
            return False
        return hmac.compare_digest(digest(sent[0][len(SCHEME) :].strip()), self._expected)
