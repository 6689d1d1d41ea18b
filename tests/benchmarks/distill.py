"""What `distill` adds to its endpoint: replies a second of plain clients, and of the command, against one server.

    python tests/benchmarks/distill.py [--attempts 4000] [--concurrency 200] [--latency 0.2] [--characters 2000]

The server answers every request after `--latency` seconds with a correct trace of `--characters`, in a process of its
own: with 200 at once and 0.2 s it gives at most 1,000 replies a second. Each client runs in a separate process.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL = "tiny-teacher"
CLIENTS = ("aiohttp", "httpx", "openai")


class Server(asyncio.Protocol):
    """HTTP/1.1 with Content-Length, kept alive, one request at a time on a connection."""

    latency, reply = 0.0, b""

    def connection_made(self, transport) -> None:
        self.transport, self.read = transport, b""

    def data_received(self, data: bytes) -> None:
        self.read += data
        head, separator, body = self.read.partition(b"\r\n\r\n")
        if not separator:
            return
        (length,) = (
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        if len(body) >= length:
            self.read = body[length:]
            asyncio.get_running_loop().call_later(self.latency, self.answer)

    def answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.reply)


async def serve(latency: float, characters: int) -> None:
    words = random.Random(0)
    letters = "abcdefghijklmnopqrst"
    reasoning = " ".join("".join(words.choices(letters, k=words.randint(1, 9))) for _ in range(characters))[:characters]
    message = {"role": "assistant", "reasoning_content": reasoning, "content": "So the answer is \\boxed{4}."}
    usage = {"prompt_tokens": 50, "completion_tokens": characters // 4, "total_tokens": 50 + characters // 4}
    fixed = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": MODEL, "usage": usage}
    body = json.dumps(fixed | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    Server.latency, Server.reply = latency, head + body
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


async def plain_client(name: str, url: str, attempts: int, concurrency: int) -> float:
    """Replies a second of a client that reads each reply's text and does nothing else."""
    left = iter(range(attempts))
    messages = [{"role": "user", "content": "What is 2 + 2? Think step by step, and put the answer in a box."}]
    body = {"model": MODEL, "messages": messages, "max_tokens": 16384}
    ask, close = await _client(name, url, body, concurrency)

    async def worker() -> None:
        for _ in left:
            assert await ask()

    begun = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    seconds = time.perf_counter() - begun
    await close()
    return attempts / seconds


async def _client(name: str, url: str, body: dict, concurrency: int):
    if name == "aiohttp":
        import aiohttp

        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency))

        async def ask() -> str:
            async with session.post(f"{url}/chat/completions", json=body) as response:
                return json.loads(await response.read())["choices"][0]["message"]["reasoning_content"]

        return ask, session.close
    if name == "httpx":
        import httpx

        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        client = httpx.AsyncClient(limits=limits, timeout=600)

        async def ask() -> str:
            response = await client.post(f"{url}/chat/completions", json=body)
            return response.json()["choices"][0]["message"]["reasoning_content"]

        return ask, client.aclose
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="none")

    async def ask() -> str:
        reply = await client.chat.completions.create(**body)
        return reply.choices[0].message.reasoning_content

    return ask, client.close


def distilled(url: str, attempts: int, concurrency: int) -> tuple[float, float]:
    """Replies a second of `distill`, and attempts a second when it only reads its journal again."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        problems, output = Path(folder, "problems.jsonl"), Path(folder, "run")
        rows = ({"problem": f"What is 2 + 2? ({number})", "answer": "4"} for number in range(attempts // 4))
        problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [
            sys.executable, "-m", "openrlhf_math", "distill", "--problems", problems, "--output", output, "--model",
            MODEL, "--base-url", url, "--attempts", "4", "--concurrency", str(concurrency),
        ]  # fmt: skip
        for _ in range(2):
            subprocess.run(command, check=True, capture_output=True)
        first, again = (json.loads(line) for line in (output / "runs.jsonl").read_text().splitlines())
    assert first["answered"] == again["had"] == attempts
    return first["answered"] / first["seconds"], again["had"] / again["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=4000, help="a multiple of 4")
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    parser.add_argument("--characters", type=int, default=2000, help="of a reply's reasoning")
    parser.add_argument("--rounds", type=int, default=3, help="in turns; the median is printed")
    parser.add_argument("--clients", nargs="*", default=CLIENTS, choices=CLIENTS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--plain", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(args.latency, args.characters))
    elif args.plain:
        print(asyncio.run(plain_client(*args.plain, args.attempts, args.concurrency)))
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    numbers = [f"--{name}={getattr(args, name)}" for name in ("attempts", "concurrency", "latency", "characters")]
    this = [sys.executable, __file__, *numbers]
    rates: dict[str, list[float]] = {}
    with subprocess.Popen([*this, "--serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip()
            for _ in range(args.rounds):
                for name in args.clients:
                    plain = subprocess.run([*this, "--plain", name, url], check=True, stdout=subprocess.PIPE, text=True)
                    rates.setdefault(f"plain {name}", []).append(float(plain.stdout))
                replies, again = distilled(url, args.attempts, args.concurrency)
                rates.setdefault("distill", []).append(replies)
                rates.setdefault("distill, its journal again", []).append(again)
        finally:
            server.terminate()
    each = f"{args.latency:g} s and {args.characters} characters each"
    print(f"{args.attempts} attempts, {args.concurrency} at once, {each}")
    for name, found in rates.items():
        print(f"{name:28}{statistics.median(found):8.0f} a second ({min(found):.0f} to {max(found):.0f})")


if __name__ == "__main__":
    main()
