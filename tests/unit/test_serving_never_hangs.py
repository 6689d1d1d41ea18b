"""Whatever fails or hangs under a request, there is an answer or an error in OpenAI's form within its budget.

The parts are those of the product but the two at its edge, the sampler and the scorer; what fails is each in turn.
"""

import asyncio
import threading
import time

import httpx
import pytest

from openrlhf_math import concurrency
from openrlhf_math.rerank import anytime
from openrlhf_math.rerank.budget import Limits
from openrlhf_math.rerank.choose import majority
from openrlhf_math.rerank.early_stop import never
from openrlhf_math.rerank.reranker import Reranker
from openrlhf_math.rerank.roles import Completion, Sampling
from openrlhf_math.rerank.solver import Method, Solver, one_solver
from openrlhf_math.rerank.strategies import independent
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.serving import app as serving
from openrlhf_math.serving.plan import Service

SECONDS = 0.15
PARTS = ("sampler", "scorer", "rule", "strategy", "grader")


class Fault:
    """One part fails: `raises`, `hangs` until it is cancelled, `refuses` to be cancelled. after: calls that go well."""

    def __init__(self, part: str, kind: str, after: int) -> None:
        self.part, self.kind, self.after = part, kind, after
        self.over = threading.Event()
        self.calls = 0

    def due(self, part: str) -> bool:
        self.calls += part == self.part
        return part == self.part and self.calls > self.after

    async def awaited(self, part: str) -> None:
        while self.due(part):
            if self.kind == "raises":
                raise ZeroDivisionError(part)
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if self.kind == "hangs" or self.over.is_set():
                    raise

    def called(self, part: str) -> None:
        """In a function, which cannot be cancelled."""
        if self.due(part):
            if self.kind == "raises":
                raise ZeroDivisionError(part)
            self.over.wait(60)


def served(fault: Fault):
    class Sampler:
        async def complete(self, messages, sampling):
            await fault.awaited("sampler")
            return Completion(f"so \\boxed{{\\sqrt{{{sampling.seed % 3 + 2}}}}}", 10, "eos")

    class Scorer:
        async def score(self, problem, responses):
            await fault.awaited("scorer")
            return [0.5 for _ in responses]

    class Pool(GradingPool):
        def grade_now(self, *asked):
            fault.called("grader")
            return super().grade_now(*asked)

        def fingerprint_now(self, *asked):
            fault.called("grader")
            return super().fingerprint_now(*asked)

    async def strategy(task):
        async for attempt in independent(task):
            await fault.awaited("strategy")
            yield attempt

    def rule(clusters, scores):
        fault.called("rule")
        return majority(clusters, scores)

    method = Method(one_solver("Box it.", Sampling(seed=1)), strategy=strategy, rule=rule, stop=never)
    pool = Pool(RewardConfig(workers=1))
    reranker = Reranker(Solver(Sampler(), Scorer(), pool))
    seconds = 30 if fault.kind == "raises" else SECONDS  # what raises does so at once
    service = Service(name="tiny", method=method, limits=Limits(attempts=6, seconds=seconds), scored=True)
    return serving.build_app(reranker, service, lambda turn: 1), pool


async def ask(app, stream: bool):
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        body = {"messages": [{"role": "user", "content": "1+1?"}], "stream": stream}
        started = time.monotonic()
        reply = await client.post("/v1/chat/completions", json=body)
        took = time.monotonic() - started
        health = await client.get("/health")
        assert health.status_code == 200 and health.json()["requests_under_way"] == 0
        return reply, took


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(concurrency, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(serving, "GRACE_SECONDS", 1.0)
    monkeypatch.setattr(anytime, "LATE_SECONDS", 0.1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("kind", ["raises", "hangs", "refuses"])
@pytest.mark.parametrize("part", PARTS)
def test_request_ends_within_its_budget(part, kind, after, stream):
    fault = Fault(part, kind, after)
    app, pool = served(fault)

    async def run():
        reply, took = await asyncio.wait_for(ask(app, stream), 60)
        fault.over.set()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # what refused to end
        return reply, took

    try:
        reply, took = asyncio.run(run())
    finally:
        fault.over.set()
        pool.close()
    assert took < 20
    last = [line for line in reply.text.split("\n\n") if line and line != "data: [DONE]"][-1]
    result = reply.json() if not stream or reply.status_code != 200 else httpx.Response(200, text=last[6:]).json()
    if kind == "raises":
        assert result["error"].keys() == {"message", "type", "param", "code"}
        assert result["error"]["code"] == "internal_error"
        assert reply.status_code == 500 or stream and (after or part == "grader")
    elif "error" in result:
        assert result["error"].keys() == {"message", "type", "param", "code"}
        assert result["error"]["code"] == "timeout" and (reply.status_code == 504 or stream and after)
    else:
        assert result["openrlhf_math"]["ended"] == "seconds" and result["openrlhf_math"]["answer"]
    if after == 0 and kind != "raises" and part != "grader":
        assert "error" in result  # no attempt was counted
