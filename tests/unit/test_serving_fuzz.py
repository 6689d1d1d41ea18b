"""Requests of every shape: each is answered, or refused in OpenAI's form; the server neither fails nor hangs."""

import asyncio
import json
import random

import httpx
import pytest

from openrlhf_math.rerank.budget import Limits
from openrlhf_math.rerank.early_stop import never
from openrlhf_math.rerank.reranker import Reranker
from openrlhf_math.rerank.roles import Completion, Sampling
from openrlhf_math.rerank.solver import Method, Solver, one_solver
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.serving.app import build_app
from openrlhf_math.serving.plan import Service
from openrlhf_math.serving.protocol import protocol_model

REQUESTS = 1500
JSON = {"Content-Type": "application/json"}
SECONDS = 60  # for one request; they take milliseconds
WORDS = ["", "text", "json_object", "user", "assistant", "auto", "none", "high", "\x00", "\ud800", "é" * 9, "{{ 1/0 }}"]
NUMBERS = [0, 1, -1, 2, 0.5, 1e308, -1e308, 1e-320, 2**31, 2**63 - 1, 2**63, -(2**63), 10**400, True, False]
KEYS = ["type", "role", "content", "text", "name", "function", "json_schema", "include_usage", "5", "tokens", "x"]
OURS = ["attempts", "rule", "seconds", "tokens", "confidence"]
OPENAIS = ["metadata", "store", "functions", "function_call", "modalities", "audio", "prediction", "verbosity",
           "service_tier", "web_search_options", "openrlhf_math", "temprature"]  # fmt: skip


class Sampler:
    async def complete(self, messages, sampling):
        json.dumps([messages, sampling.template_variables, sampling.more])  # as prompts are kept
        return Completion("so \\boxed{7}", 10, "eos")


def value(draw: random.Random, depth: int = 0):
    kind = draw.random()
    if kind < 0.3:
        return draw.choice(NUMBERS)
    if kind < 0.55 or depth > 3:
        return draw.choice(WORDS)
    if kind < 0.65:
        return None
    if kind < 0.8:
        return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {draw.choice(KEYS): value(draw, depth + 1) for _ in range(draw.randrange(4))}


def request(draw: random.Random) -> bytes:
    names = [*protocol_model().model_fields, *OPENAIS]
    body = {"messages": [{"role": "user", "content": "1+1?"}]}
    for name in draw.sample(names, draw.randrange(1, 4)):
        body[name] = value(draw)
    if draw.random() < 0.2:
        body["openrlhf_math"] = {draw.choice(OURS): value(draw)}
    if draw.random() < 0.2:
        body["messages"] = [{"role": "user", "content": "1+1?"}, value(draw)] if draw.random() < 0.5 else value(draw)
    text = json.dumps(body, allow_nan=True)
    if draw.random() < 0.1:  # broken on its way
        cut = draw.randrange(len(text))
        text = text[:cut] + draw.choice(["", "}", "NaN", "[" * 5000, '"', "\\u0000"]) + text[cut + draw.randrange(3) :]
    return text.encode()


@pytest.fixture(scope="module")
def app():
    pool = GradingPool(RewardConfig(workers=1))
    service = Service(
        name="tiny",
        method=Method(one_solver("Box it.", Sampling()), stop=never),
        limits=Limits(attempts=1, seconds=30),
        scored=False,
        most_attempts=2,
        context=100,
    )
    yield build_app(Reranker(Solver(Sampler(), None, pool)), service, lambda turn: 1)
    pool.close()


def is_error(body: dict) -> bool:
    error = body["error"]
    return (
        set(error) == {"message", "type", "param", "code"}
        and isinstance(error["message"], str)
        and bool(error["message"])
        and isinstance(error["param"], str | None)
    )


def test_every_request_is_answered_or_refused_in_the_form_of_openai(app):
    draw = random.Random(20)
    statuses = []

    async def ask(client, body: bytes) -> None:
        reply = await asyncio.wait_for(
            client.post("http://test/v1/chat/completions", content=body, headers=JSON), SECONDS
        )
        statuses.append(reply.status_code)
        if reply.headers["content-type"].startswith("text/event-stream"):
            assert reply.status_code == 200 and reply.text.endswith("data: [DONE]\n\n"), body
        elif reply.status_code == 200:
            assert reply.json()["choices"][0]["message"]["content"] == "so \\boxed{7}", body
        elif reply.status_code == 504:  # it asked for so little time
            assert b'"seconds"' in body and is_error(reply.json())
        else:
            assert 400 <= reply.status_code < 500 and is_error(reply.json()), (body, reply.text)

    async def all_of_them() -> None:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport) as client:
            for _ in range(REQUESTS):
                await ask(client, request(draw))

    asyncio.run(all_of_them())
    assert statuses.count(200) > REQUESTS / 50 and statuses.count(400) > REQUESTS / 2  # both kinds were met
