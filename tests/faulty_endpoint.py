"""The programmatic teacher's endpoint on loopback, with faults on demand: a real server, down to broken bytes."""

import asyncio
import gzip
import json
import threading
from collections import Counter
from collections.abc import Callable

from openrlhf_math.data.tiny_world.server import complete

FLAWED = 0.3
SLOW = 0.05  # seconds
UNSUPPORTED = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)


class FaultyEndpoint:
    """Answers on `url` until the block ends. fault(number, question) names what goes wrong with a request, "" nothing.

    number: requests so far. asked: how often each (question, seed) came. headers: of the last request. bodies: of all.
    """

    def __init__(self, fault: Callable[[int, str], str] = lambda number, question: "") -> None:
        self.fault = fault
        self.requests = 0
        self.asked: Counter[tuple[str, int]] = Counter()
        self.headers: dict[str, str] = {}
        self.bodies: list[dict] = []
        self.sent = 0  # bytes of bodies without end

    def __enter__(self) -> "FaultyEndpoint":
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *exception) -> None:
        self._loop.call_soon_threadsafe(self._ended.set_result, None)
        self._thread.join()

    def _serve(self, started: threading.Event) -> None:
        self._loop.run_until_complete(self._run(started))
        self._loop.close()

    async def _run(self, started: threading.Event) -> None:
        self._ended = self._loop.create_future()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        started.set()
        await self._ended
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                self.headers = dict(line.split(": ", 1) for line in head[1:] if line)
                body = json.loads(await reader.readexactly(int(self.headers["Content-Length"])))
                self.requests += 1
                self.bodies.append(body)
                question = body["messages"][-1]["content"]
                fault = self.fault(self.requests, question)
                if fault in ("", "slow"):
                    self.asked[question, body.get("seed")] += 1
                await self._answer(writer, body, fault)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, body: dict, fault: str) -> None:
        whole = json.dumps(complete(body, FLAWED)).encode()
        if fault == "slow":
            await asyncio.sleep(SLOW)
            fault = ""
        key = self.headers.get("Authorization", "")
        if fault == "hang":
            await asyncio.sleep(3600)
        elif fault == "drip":  # a byte now and then, so that no pause is long
            writer.write(_head(200, len(whole)))
            for byte in whole:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.1)
        elif fault == "no end":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            while True:
                writer.write(b" " * 65536)
                self.sent += 65536
                await writer.drain()
        elif fault == "headers without end":
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                writer.write(b"X-Header: " + b"x" * 1000 + b"\r\n")
                await writer.drain()
        elif fault == "half a body":
            writer.write(_head(200, len(whole)) + whole[: len(whole) // 2])
            await writer.drain()
            raise ConnectionResetError
        elif fault == "hang up":
            raise ConnectionResetError
        else:
            status, headers, answer = {
                "": (200, "", whole),
                "429": (429, "Retry-After: 0\r\n", b'{"error": {"message": "slow down"}}'),
                "429 for 1 s": (429, "Retry-After: 1\r\n", b'{"error": {"message": "slow down"}}'),
                "500": (500, "", b"<html>oops</html>"),
                "503": (503, "Retry-After: soon\r\n", b""),
                "401": (401, "", json.dumps({"error": {"message": f"wrong key {key}"}}).encode()),
                "404": (404, "", b'{"error": "no such model"}'),
                "400": (400, "", b'{"error": {"message": "too long"}}'),
                "html": (200, "", b"<html>welcome</html>"),
                "half of JSON": (200, "", whole[: len(whole) // 2]),
                "bytes": (200, "", bytes(range(256))),
                "no usage": (200, "", json.dumps(json.loads(whole) | {"usage": None}).encode()),
                "no choices": (200, "", b'{"choices": []}'),
                "null": (200, "", b"null"),
                "an error in 200": (200, "", b'{"error": {"message": "overloaded"}}'),
                "events": (200, "", b'data: {"choices": []}\n\ndata: [DONE]\n\n'),
                "10 MB": (200, "", whole + b" " * 10_000_000),
                "packed": (200, "Content-Encoding: gzip\r\n", gzip.compress(whole)),
                "moved": (301, "Location: https://elsewhere.example/v1\r\n", b""),
                "402": (402, "", b'{"detail": "no funds"}'),
                "418": (418, "", b'{"message": "a teapot"}'),
                "unsupported": (400, "", json.dumps({"error": {"message": UNSUPPORTED, "type": "x"}}).encode()),
                "the key in other signs": (
                    200,
                    "",
                    whole.replace(b"The answer is", b"Your " + _escaped(key) + b". The answer is"),
                ),
                "the key": (200, "", whole.replace(b"The answer is", f"Your {key}. The answer is".encode())),
            }[fault]
            writer.write(_head(status, len(answer), headers) + answer)
            await writer.drain()


def _head(status: int, length: int, headers: str = "") -> bytes:
    fixed = f"Content-Type: application/json\r\nContent-Length: {length}\r\n"
    return f"HTTP/1.1 {status} Status\r\n{fixed}{headers}\r\n".encode()


def _escaped(text: str) -> bytes:
    """As JSON may spell it."""
    return "".join(f"\\u{ord(sign):04x}" for sign in text).encode()
