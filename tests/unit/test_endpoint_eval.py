"""`eval` and `serve` with a model behind an endpoint: a real server on loopback, its faults, kills and budgets."""

import asyncio
import json
import signal
import subprocess
import sys

import httpx
import pytest
from chat_server import ChatServer
from faulty_endpoint import FaultyEndpoint

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world.problems import distinct_stories
from openrlhf_math.endpoint import client
from openrlhf_math.rerank.budget import Budget, Limits
from openrlhf_math.rerank.roles import Completion, Sampling
from openrlhf_math.rerank.solver import Method, Solver, one_solver
from openrlhf_math.rerank.verdicts import VotingVerifier
from openrlhf_math.rewards import GradingPool, RewardConfig

STORIES = distinct_stories(6, seed=3)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(client, "backoff", lambda number: 0.0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def problems(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps({"problem": one.text, "answer": str(one.answer)}) + "\n" for one in STORIES))
    return path


def evaluate(url, problems, output, *flags) -> int:
    given = ("--model", "tiny", "--base-url", url, "--benchmark", problems, "--samples", 3, "--temperature", 0.5,
             "--tries", 9, "--workers", 1, "--output", output, "--json")  # fmt: skip
    return main(["eval", *map(str, given), *map(str, flags)])


def completions(output) -> list[dict]:
    return [json.loads(line) for line in (output / "completions.jsonl").read_text().splitlines()]


def test_every_completion_is_requested_once_with_a_distinct_seed(problems, tmp_path, capsys):
    output = tmp_path / "out"
    with FaultyEndpoint(lambda number, question: "500" if number % 4 == 1 else "") as server:
        assert evaluate(server.url, problems, output, "--top-k", 5) in (None, 0)
        answered = server.asked
        assert len(answered) == 3 * len(STORIES) and set(answered.values()) == {1}
        assert all(body["temperature"] == 0.5 and body["top_k"] == 5 for body in server.bodies)
        assert all("max_tokens" not in body for body in server.bodies)  # the endpoint's own
    result = json.loads(capsys.readouterr().out)["problems"]
    rows = completions(output)
    right = sum(row["outcome"] == "correct" for row in rows)
    assert result["pass_at_1"] == pytest.approx(right / 18) and 0 < right < 18
    assert len(rows) == 18 and all(row["tokens"] > 0 for row in rows)


def test_rerun_requests_only_missing_completions(problems, tmp_path, capsys):
    output = tmp_path / "out"
    refused = STORIES[2].text
    with FaultyEndpoint(lambda number, question: "400" if question.startswith(refused) else "") as server:
        assert evaluate(server.url, problems, output) == 2
        assert "completions that are missing: 3 (problem 2: " in capsys.readouterr().err
        assert not (output / "summary.json").exists() and len(server.asked) == 15
        server.fault, before = lambda number, question: "", server.requests
        assert evaluate(server.url, problems, output, "--seed", 5) == 2  # other completions
        assert "--seed" in capsys.readouterr().err
        assert evaluate(server.url, problems, output) in (None, 0)
        assert server.requests == before + 3
    assert len(completions(output)) == 18


@pytest.mark.parametrize(
    ("flags", "named"),
    [(("--prompt", "r1"), "--prompt"), (("--no-chat-template",), "--prompt"), (("--max-context", 99), "--max-context"),
     (("--concurrency", 0), "--concurrency")],
    ids=str,
)  # fmt: skip
def test_unsupported_endpoint_features_are_refused_before_requests(problems, tmp_path, capsys, flags, named):
    with FaultyEndpoint() as server:
        assert evaluate(server.url, problems, tmp_path / "out", *flags) == 2
        assert server.requests == 0
    assert named in capsys.readouterr().err


def test_unreachable_endpoint_is_one_sentence(problems, tmp_path, capsys):
    assert evaluate("http://127.0.0.1:9/v1", problems, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "--base-url http://127.0.0.1:9/v1" in error and "Traceback" not in error


class Writes:
    """Eleven tokens each time."""

    def __init__(self, text: str) -> None:
        self.text, self.asked = text, 0

    async def complete(self, messages, sampling):
        self.asked += 1
        return Completion(self.text, 11, "eos")


def test_verifier_tokens_count_in_the_budget():
    solver, judge = Writes("so \\boxed{7}"), Writes("Verdict: Yes")
    pool = GradingPool(RewardConfig(workers=1))
    try:
        verifier = VotingVerifier(judge, votes=3)
        method = Method(one_solver("", Sampling()), max_concurrency=1)
        budget = Budget(Limits(tokens=100, attempts=50))
        solution = asyncio.run(Solver(solver, verifier, pool).solve("3+4?", method, budget))
    finally:
        pool.close()
    assert judge.asked == 3 * solver.asked
    assert budget.tokens == solution.decision.tokens == 11 * (judge.asked + solver.asked)
    assert solver.asked == 3 and solution.decision.ended == "tokens"  # 44 each: the third goes beyond 100


@pytest.mark.slow
def test_server_in_front_of_an_endpoint_solves_by_vote_and_ends_with_a_signal(tmp_path):
    replies = iter(["\\boxed{7}", "\\boxed{8}", "\\boxed{8}"] * 100)

    def answer(body, headers):
        if body["messages"][-1]["content"].startswith("fail"):
            return 400, "no"
        return 200, next(replies)

    with ChatServer(answer) as endpoint:
        command = [
            sys.executable, "-m", "openrlhf_math", "serve", "--model", "tiny", "--base-url", endpoint.url,
            "--port", "0", "--attempts", "3", "--no-early-stop", "--attempt-concurrency", "1", "--workers", "1",
            "--tries", "1",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                url = process.stdout.readline().strip()
                assert url.startswith("http"), process.stderr.read()
                assert httpx.get(f"{url}/models").json()["data"][0]["id"] == "tiny"
                body = {"messages": [{"role": "user", "content": "3+5?"}]}
                result = httpx.post(f"{url}/chat/completions", json=body, timeout=300).json()
                assert (
                    result["openrlhf_math"]["answer"] == "8"
                    and result["choices"][0]["message"]["content"] == "\\boxed{8}"
                )
                body["messages"][0]["content"] = "fail"
                assert httpx.post(f"{url}/chat/completions", json=body, timeout=60).status_code == 400
                assert httpx.get(url.replace("/v1", "/health")).status_code == 200
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
            finally:
                process.kill()
