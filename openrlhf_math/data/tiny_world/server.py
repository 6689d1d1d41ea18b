"""The programmatic teacher behind an OpenAI-compatible HTTP server, as a model such as DeepSeek-R1 is served.

Not every trace is good: with a seed, some have a wrong answer, no box, or two different ones, and `max_tokens` cuts off
the long ones. The same question with the same seed always gets the same trace.
"""

import random
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

from openrlhf_math.data.tiny_world.problems import GAINS, NAMES, THINGS, Story, write_trace

MODEL = "tiny-teacher"
FLAWS = ("wrong answer", "no box", "two boxes")
MAX_TOKENS = 1024
_BEGINNING = re.compile(rf"({'|'.join(NAMES)}) has (\d+) ({'|'.join(THINGS)})\.")
_STEP = re.compile(r"\. \w+ ([a-z]+(?: away)?) (\d+)(?=\.)")
_TOKEN = re.compile(r"\w+|[^\w\s]|\s+")


def read_story(text: str) -> Story | None:
    """The story of a problem's text, None if it is not one of the tiny world's; what follows it is ignored."""
    beginning = _BEGINNING.match(text)
    if not beginning:
        return None
    name, start, thing = beginning.groups()
    steps = _STEP.findall(text.partition("\n")[0])
    changes = tuple(int(amount) if verb in GAINS else -int(amount) for verb, amount in steps)
    return Story(name, thing, int(start), tuple(verb for verb, _ in steps), changes)


def teach(story: Story, seed: int, flawed: float) -> str:
    """A trace, the same for the same story and seed. flawed: the fraction, 0 to 1, that is deliberately wrong."""
    rng = random.Random(f"{seed} {story.text}")
    flaw = rng.choice(FLAWS) if rng.random() < flawed else None
    trace = write_trace(story, rng)
    box = f"\\boxed{{{story.answer}}}"
    if flaw == "wrong answer":
        return trace.replace(box, f"\\boxed{{{story.answer + rng.randint(1, 3)}}}")
    if flaw == "no box":
        return trace.replace(box, str(story.answer))
    if flaw == "two boxes":
        return trace.replace(box, f"{box}. Or is it \\boxed{{{story.answer + 1}}}")
    return trace


def complete(request: dict, flawed: float) -> dict | None:
    """The body of a chat completion; None if the question is none of the tiny world's.

    request: an OpenAI request. Tokens are words, digits and signs. The reasoning comes apart, as DeepSeek sends it.
    """
    messages = request.get("messages") or [{}]
    story = read_story(str(messages[-1].get("content")))
    if story is None:
        return None
    tokens = _TOKEN.findall(teach(story, request.get("seed") or 0, flawed))
    limit = request.get("max_tokens") or MAX_TOKENS
    reasoning, _, content = "".join(tokens[:limit]).partition("</think>")
    message = {
        "role": "assistant",
        "reasoning_content": reasoning.removeprefix("<think>").strip(),
        "content": content.strip() or None,
    }
    finish_reason = "length" if len(tokens) > limit else "stop"
    prompt, completion = len(_TOKEN.findall(story.text)), min(len(tokens), limit)
    return {
        "id": "chatcmpl-tiny",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        },
    }


def build_app(flawed: float = 0.2, key: str = "", delay: float = 0.0) -> "FastAPI":
    """The server as an ASGI application.

    flawed: see `teach`. key: what clients must send, "" for anything. delay: seconds a reply takes.
    """
    import asyncio

    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    app = FastAPI(title=MODEL)

    def refuse(status: int, message: str) -> JSONResponse:
        return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, status)

    @app.get("/v1/models")
    async def models() -> dict:
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "openrlhf_math"}]}

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(request: Request) -> dict | JSONResponse:
        if key and request.headers.get("Authorization") != f"Bearer {key}":
            return refuse(401, "the key is wrong")
        body = await request.json()
        if body.get("model") != MODEL:
            return refuse(404, f"there is no model {body.get('model')!r}, only {MODEL}")
        await asyncio.sleep(delay)
        answer = complete(body, flawed)
        return answer or refuse(400, "this teacher knows the problems of the tiny world alone")

    return app
