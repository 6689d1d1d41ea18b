"""What `distill` adds to its endpoint: requests a second of the server alone, and of the command against it.

    python tests/benchmarks/distill.py [--attempts 4000]

The server is the programmatic teacher in a process of its own; each attempt is journalled with fdatasync and graded.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from openrlhf_math.data.tiny_world.problems import distinct_stories

CONCURRENCY = 32


async def plain_requests(url: str, questions: list[str]) -> float:
    """Requests a second without anything around them."""
    left = iter(questions)

    async def lane(session: aiohttp.ClientSession) -> None:
        for text in left:
            body = {"model": "tiny-teacher", "messages": [{"role": "user", "content": text}]}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                await response.read()

    async with aiohttp.ClientSession() as session:
        begun = time.perf_counter()
        await asyncio.gather(*(lane(session) for _ in range(CONCURRENCY)))
        return len(questions) / (time.perf_counter() - begun)


def distilled(url: str, texts: list[dict], attempts: int) -> tuple[float, float]:
    """Requests a second of `distill`, and attempts a second when it only reads its journal again."""
    with tempfile.TemporaryDirectory() as folder:
        problems, output = Path(folder, "problems.jsonl"), Path(folder, "run")
        problems.write_text("".join(json.dumps(row) + "\n" for row in texts))
        command = [
            sys.executable, "-m", "openrlhf_math", "distill", "--problems", problems, "--output", output, "--model",
            "tiny-teacher", "--base-url", url, "--attempts", str(attempts), "--concurrency", str(CONCURRENCY),
        ]  # fmt: skip
        for _ in range(2):
            subprocess.run(command, check=True, capture_output=True)
        first, again = (json.loads(line) for line in (output / "runs.jsonl").read_text().splitlines())
    return first["answered"] / first["seconds"], again["had"] / again["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=4000)
    attempts = parser.parse_args().attempts
    stories = distinct_stories(attempts // 4, seed=1)
    rows = [{"problem": story.text, "answer": str(story.answer)} for story in stories]
    server = subprocess.Popen(
        [sys.executable, "-m", "openrlhf_math", "tiny-teacher"], stdout=subprocess.PIPE, text=True
    )
    try:
        url = server.stdout.readline().strip()
        asyncio.run(plain_requests(url, [story.text for story in stories]))  # the server warms up
        alone = asyncio.run(plain_requests(url, [story.text for story in stories] * 4))
        with_all, again = distilled(url, rows, 4)
    finally:
        server.terminate()
        server.wait()
    print(f"{attempts} attempts, {CONCURRENCY} at once")
    print(f"plain requests           {alone:8.0f} a second")
    print(f"distill                  {with_all:8.0f} a second: {1000 / with_all - 1000 / alone:+.2f} ms an attempt")
    print(f"distill, from its journal{again:8.0f} attempts a second")


if __name__ == "__main__":
    main()
