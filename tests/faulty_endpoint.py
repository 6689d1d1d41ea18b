"""The programmatic teacher's endpoint on loopback, with faults on demand: a real server, down to broken bytes."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable

from openrlhf_math.data.tiny_world.server import complete

FLAWED = 0.3
SLOW = 0.05  # seconds


class FaultyEndpoint:
    """Answers on `url` until the block ends. fault(number, question) names what goes wrong with a request, "" nothing.

    number: requests so far. asked: how often each (question, seed) came. headers: of the last request.
    """

    def __init__(self, fault: Callable[[int, str], str] = lambda number, question: "") -> None:
        self.fault = fault
        self.requests = 0
        self.asked: Counter[tuple[str, int]] = Counter()
        self.headers: dict[str, str] = {}

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
                "no choices": (200, "", b'{"choices": []}'),
                "null": (200, "", b"null"),
                "an error in 200": (200, "", b'{"error": {"message": "overloaded"}}'),
                "the key": (200, "", whole.replace(b"The answer is", f"Your {key}. The answer is".encode())),
            }[fault]
            writer.write(_head(status, len(answer), headers) + answer)
            await writer.drain()


def _head(status: int, length: int, headers: str = "") -> bytes:
    fixed = f"Content-Type: application/json\r\nContent-Length: {length}\r\n"
    return f"HTTP/1.1 {status} Status\r\n{fixed}{headers}\r\n".encode()
