"""The endpoints over a solver in this process: answers, votes, streams, and errors."""

import asyncio
import contextlib
import gzip
import json
import socket
import threading
import time
import warnings

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from openrlhf_math.cli import main
from openrlhf_math.rerank.anytime import Attempt, VoteState, decide
from openrlhf_math.rerank.budget import Budget, Limits
from openrlhf_math.rerank.choose import RULES, weighted
from openrlhf_math.rerank.early_stop import never
from openrlhf_math.rerank.reranker import Solved, progress
from openrlhf_math.rerank.roles import Sampling, Unavailable
from openrlhf_math.rerank.solver import Method, Solution, one_solver
from openrlhf_math.serving.app import MOST_BYTES, RequiresKey, build_app, digest
from openrlhf_math.serving.plan import Service
from openrlhf_math.serving.protocol import protocol_model

protocol_model()  # importing vLLM takes longer than some requests here may


class Backend:
    """Every attempt answers with the next of `answers`, scored by `scores`; the problem may say what goes wrong."""

    def __init__(self, answers=("7", "8", "7", None), scores=(0.5, 0.9, 0.6, float("nan"))):
        self.answers, self.scores = answers, scores
        self.asked = []
        self.under_way = self.cancelled = 0
        self.dead = False

    async def stream(self, problem, method, limits):
        self.asked.append((problem, method, limits))
        self.under_way += 1
        try:
            if problem == "too long":
                yield Solved(0, None, "the problem takes 9 tokens with its prompt, the model's context is 8")
                return
            if problem == "dead":
                raise Unavailable("the reranker has died")
            if problem == "bug":
                raise ZeroDivisionError
            state, budget = VoteState(lambda first, second: False, method.rule), Budget(limits)
            attempts = self.attempts(problem, budget)
            news = []
            decision = await decide(attempts, budget, state, method.stop, lambda state: news.append(progress(state)))
            for one in news:
                yield one
            if problem == "dies later":
                raise Unavailable("the reranker has died")
            number = decision.attempt
            yield Solved(0, Solution(
                problem=problem, answer=decision.answer, text="" if number is None else state.attempts[number].text,
                decision=decision, attempts=tuple(state.attempts), answer_clusters=tuple(state.answer_clusters),
                scores=tuple(state.scores), voting=tuple(state.voting), weights=tuple(state.weights), scored=True,
                seconds=0.5,
            ))  # fmt: skip
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1

    async def attempts(self, problem, budget):
        for number in range(1000):
            if problem == "hangs":
                await asyncio.sleep(3600)
            await asyncio.sleep({"slow": 0.05, "slower": 0.2}.get(problem, 0))
            answer = self.answers[number % len(self.answers)]
            score = self.scores[number % len(self.scores)]
            budget.spend(10)
            yield Attempt(answer, [0.1, score], 10, f"text {number}: {answer}", "solver")

    async def check(self):
        if self.dead:
            raise Unavailable("the reranker has died")


def service(**more):
    method = Method(one_solver("Box it.", Sampling()), rule=weighted, stop=never)
    values = {
        "name": "tiny",
        "method": method,
        "limits": Limits(attempts=4, seconds=20),
        "scored": True,
        "most_attempts": 64,
    }
    return Service(**values | more)


def count_words(turn):
    return sum(len(message["content"].split()) for message in turn.messages)


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
def served(backend):
    """A server on loopback; gives its address."""
    with running(build_app(backend, service(most_requests=10), count_words)) as url:
        yield url


@contextlib.contextmanager
def running(app):
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def chat(url, problem="1+1?", **fields):
    body = {"messages": [{"role": "user", "content": problem}], **fields}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)


def metrics(url):
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_model_is_found_by_its_name(served):
    assert httpx.get(f"{served}/v1/models/tiny").json() == httpx.get(f"{served}/v1/models").json()["data"][0]
    missing = httpx.get(f"{served}/v1/models/an/other")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny", "/health", "/metrics"])
def test_checks_by_head_get_what_get_has_without_a_body(served, path):
    head, whole = httpx.head(f"{served}{path}"), httpx.get(f"{served}{path}")
    assert (head.status_code, head.text) == (200, "") and whole.text
    assert head.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/chat/completions"), ("DELETE", "/v1/models")])
def test_wrong_method_names_the_right_ones(served, method, path):
    reply = httpx.request(method, f"{served}{path}")
    assert reply.status_code == 405 and reply.json()["error"]["message"]
    assert reply.headers["allow"] in ("POST", "GET")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/json5"])
def test_body_that_is_not_sent_as_json_is_refused(served, media_type):
    """A browser sends the first two for any web page without asking the server, in a no-cors request."""
    body = json.dumps({"messages": [{"role": "user", "content": "1+1?"}]}).encode()
    for given, status in ((media_type, 415), ("Application/JSON ; charset=utf-8", 200)):
        headers = {"Content-Type": given} if given else {}
        reply = httpx.post(f"{served}/v1/chat/completions", content=body, headers=headers)
        assert reply.status_code == status
    refused = httpx.post(f"{served}/v1/chat/completions", content=body, headers={"Content-Type": media_type})
    assert refused.json()["error"]["message"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_compressed_body_is_refused(served, encoding):
    body = json.dumps({"messages": [{"role": "user", "content": "1+1?"}]}).encode()
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    reply = httpx.post(f"{served}/v1/chat/completions", content=gzip.compress(body), headers=headers)
    assert reply.status_code == 415 and encoding in reply.json()["error"]["message"]
    plain = httpx.post(
        f"{served}/v1/chat/completions", content=body, headers=headers | {"Content-Encoding": "identity"}
    )
    assert plain.status_code == 200


def test_schema_is_made_without_a_warning(served):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert httpx.get(f"{served}/openapi.json").status_code == 200


def test_answer_includes_its_evidence(served):
    reply = chat(served)
    assert reply.status_code == 200
    result = reply.json()
    assert result["object"] == "chat.completion" and result["model"] == "tiny"
    message = {"role": "assistant", "content": "text 0: 7", "refusal": None}
    assert result["choices"] == [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
    assert result["usage"] == {"prompt_tokens": 3, "completion_tokens": 40, "total_tokens": 43}
    report = result["openrlhf_math"]
    assert report["votes"] == [{"answer": "7", "votes": 2, "score": 0.6}, {"answer": "8", "votes": 1, "score": 0.9}]
    assert [one["vote"] for one in report["attempts"]] == [0, 1, 0, None]
    assert report["attempts"][3] == {
        "answer": None, "vote": None, "score": 0.0, "scores": [0.1, None], "tokens": 10, "by": "solver",
        "confidence": None,
    }  # fmt: skip
    del report["votes"], report["attempts"]
    assert report == {"answer": "7", "chosen": 0, "rule": "weighted", "unscored": 1, "ended": "attempts", "tokens": 40,
                      "tokens_saved": 0, "not_counted": 0, "left_out": 0, "unmeasured": 0, "by_model": None,
                      "seconds": 0.5}  # fmt: skip


def test_several_answers_are_distinct_and_ordered(served):
    texts = [choice["message"]["content"] for choice in chat(served, n=3).json()["choices"]]
    assert texts == ["text 0: 7", "text 1: 8"]


@pytest.mark.parametrize(
    "wishes, fields, limits",
    [
        ({}, {}, Limits(attempts=4, seconds=20)),
        ({"attempts": 9, "tokens": 50, "seconds": 3}, {}, Limits(tokens=50, attempts=9, seconds=3)),
        ({}, {"n": 6}, Limits(attempts=6, seconds=20)),
    ],
)
def test_request_may_set_a_budget(served, backend, wishes, fields, limits):
    assert chat(served, openrlhf_math=wishes, **fields).status_code == 200
    assert backend.asked[-1][2] == limits


def test_request_may_set_how_it_is_solved(served, backend):
    wishes = {"rule": "best_of_n", "confidence": 0.95, "attempts": 16}
    result = chat(served, temperature=0.1, top_p=0.5, max_tokens=99, seed=3, openrlhf_math=wishes)
    assert result.json()["openrlhf_math"]["rule"] == "best_of_n" and result.json()["openrlhf_math"]["answer"] == "8"
    problem, method, _ = backend.asked[-1]
    assert method.rule is RULES["best_of_n"] and method.stop([4], 12)
    turn = method.turns(problem)(2)
    assert turn.sampling == Sampling(temperature=0.1, top_p=0.5, max_tokens=99, seed=turn.sampling.seed)
    assert turn.messages == [{"role": "user", "content": "1+1?\nBox it."}]


def test_requests_with_neighbouring_seeds_share_no_attempt(served, backend):
    seeds = []
    for seed in (7, 8):
        chat(served, seed=seed)
        problem, method, _ = backend.asked[-1]
        seeds.append({method.turns(problem)(number).sampling.seed for number in range(8)})
    assert len(seeds[0] | seeds[1]) == 16
    # One derivation for `solve` and `serve`.
    solved = one_solver("Box it.", Sampling(seed=7))("1+1?")
    assert seeds[0] == {solved(number).sampling.seed for number in range(8)}


def test_conversation_is_put_before_the_problem(served, backend):
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "and "}, {"type": "text", "text": "2+2?"}]},
    ]
    reply = httpx.post(f"{served}/v1/chat/completions", json={"messages": messages})
    assert reply.status_code == 200
    problem, method, _ = backend.asked[-1]
    assert problem == "and 2+2?"
    assert [(one["role"], one["content"]) for one in method.turns(problem)(0).messages] == [
        ("system", "Be kind.\n\nBe brief."), ("user", "1+1?"), ("assistant", "2"), ("user", "and 2+2?\nBox it."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body, status, param",
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400, None),
        (b"\xff", 400, None),
        ({}, 400, "messages"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, 400, "messages.0"),
        ({"messages": [{"role": "user", "content": " \n"}]}, 400, "messages.0"),
        ({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "2"}]}, 400, "messages.1"),
        ({"messages": [{"role": "robot", "content": "?"}]}, 400, "messages.0.role"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": ["a", {"type": "text"}]}]}, 400, "messages.0.content.1.text"),
        ({"messages": [{"role": "user", "content": [1]}]}, 400, "messages.0.content.0"),
        ({"stop": 7}, 400, "stop"),
        ({"temperature": -1}, 400, "temperature"),
        ({"temperature": "hot"}, 400, "temperature"),
        ({"temprature": 1}, 400, "temprature"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"n": 0}, 400, "n"),
        ({"n": 65}, 400, "n"),
        ({"n": 3, "openrlhf_math": {"attempts": 2}}, 400, "n"),
        ({"seed": 2**63}, 400, "seed"),
        ({"model": "gpt-4"}, 404, "model"),
        ({"openrlhf_math": {"attempts": 65}}, 400, "openrlhf_math.attempts"),
        ({"openrlhf_math": {"seconds": 21}}, 400, "openrlhf_math.seconds"),
        ({"openrlhf_math": {"seconds": 0}}, 400, "openrlhf_math.seconds"),
        ({"openrlhf_math": {"confidence": 0.5}}, 400, "openrlhf_math.confidence"),
        ({"openrlhf_math": {"rule": "os.system"}}, 400, "openrlhf_math.rule"),
        ({"openrlhf_math": {"tokens": 1.5}}, 400, "openrlhf_math.tokens"),
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_request_names_its_field(served, backend, body, status, param, stream):
    if isinstance(body, dict):
        whole = {"messages": [{"role": "user", "content": "?"}]} if body and "messages" not in body else {}
        body = json.dumps({**whole, **body, "stream": stream}).encode()
    reply = httpx.post(f"{served}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (status, "invalid_request_error")
    assert param is None or error["param"] == param and (param in error["message"])
    assert backend.asked == []


def test_without_a_scorer_there_are_no_scores(backend):
    with running(build_app(backend, service(scored=False), count_words)) as url:
        report = chat(url).json()["openrlhf_math"]
        assert {vote["score"] for vote in report["votes"]} == {None} and report["unscored"] == 0
        assert chat(url, openrlhf_math={"rule": "best_of_n"}).json()["error"]["param"] == "openrlhf_math.rule"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "problem, status, result",
    [("too long", 400, "context is 8"), ("dead", 503, "has died"), ("bug", 500, "log"), ("hangs", 504, "time was up")],
)
def test_each_failure_has_an_http_status(served, backend, problem, status, result, stream):
    reply = chat(served, problem, stream=stream, openrlhf_math={"seconds": 0.3})
    assert reply.status_code == status and result in reply.json()["error"]["message"]
    assert backend.under_way == 0
    assert chat(served).status_code == 200
    assert metrics(served)["openrlhf_math_requests_total", str(status)] == 1


def test_request_that_is_too_large_is_not_read_to_its_end(served):
    reply = chat(served, "1" * MOST_BYTES)
    assert reply.status_code == 413 and "4 MiB" in reply.json()["error"]["message"]


@pytest.mark.parametrize("method, path, status", [("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405)])
def test_errors_of_the_path_have_the_same_form(served, method, path, status):
    reply = httpx.request(method, served + path)
    assert reply.status_code == status and reply.json()["error"]["type"] == "invalid_request_error"


def test_no_attempt_has_an_answer():
    with running(build_app(Backend(answers=[None]), service(), count_words)) as url:
        result = chat(url).json()
        assert result["openrlhf_math"]["answer"] is None and result["openrlhf_math"]["votes"] == []
        assert result["choices"][0]["message"]["content"] == "text 0: None"
        assert metrics(url)["openrlhf_math_unanswered_total",] == 1


def events(reply):
    data = [line[len("data: ") :] for line in reply.text.split("\n\n") if line]
    assert data.pop() == "[DONE]"
    return [json.loads(one) for one in data]


def test_stream_sends_attempts_then_the_answer(served):
    reply = chat(served, stream=True, stream_options={"include_usage": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    first, *result, answer, end, usage = events(reply)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [one["openrlhf_math"]["progress"]["attempts"] for one in result] == [1, 2, 3, 4]
    assert answer["choices"][0]["delta"]["content"] == "text 0: 7"
    assert end["choices"][0]["finish_reason"] == "stop" and end["openrlhf_math"]["answer"] == "7"
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 40
    assert len({one["id"] for one in [first, *result, answer, end, usage]}) == 1


def test_broken_stream_gives_a_reason(served):
    last = chat(served, "dies later", stream=True).text.strip().split("\n\n")[-1]
    assert "has died" in json.loads(last.removeprefix("data: "))["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("problem", ["hangs", "slower"])
def test_disconnected_client_cancels_the_work(served, backend, problem, stream):
    with pytest.raises(httpx.ReadTimeout):
        body = {"messages": [{"role": "user", "content": problem}], "stream": stream}
        wishes = {"attempts": 60}
        httpx.post(f"{served}/v1/chat/completions", json={**body, "openrlhf_math": wishes}, timeout=0.4)
    until(lambda: backend.asked and backend.under_way == 0, 8)
    assert backend.cancelled == 1
    assert httpx.get(f"{served}/health").json() == {"status": "ok", "requests_under_way": 0}


def test_client_disconnects_during_its_request(served, backend):
    with socket.create_connection(("127.0.0.1", httpx.URL(served).port)) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        time.sleep(0.2)
    until(lambda: metrics(served).get(("openrlhf_math_requests_total", "499")) == 1)
    assert backend.asked == []


def until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def test_no_request_of_a_hundred_is_lost(served, backend):
    """10 at once are accepted, the others must retry; a tenth disconnect."""

    async def one(client, number):
        body = {"messages": [{"role": "user", "content": "slow" if number % 10 else "hangs"}]}
        for _ in range(1000):
            timeout = 0.05 if number % 10 == 0 else 30
            try:
                reply = await client.post(f"{served}/v1/chat/completions", json=body, timeout=timeout)
            except httpx.TimeoutException:
                return "left"
            if reply.status_code != 429:
                return reply.json()["openrlhf_math"]["answer"]
            refused.append(reply.headers["retry-after"])
            await asyncio.sleep(0.05)
        return None

    async def all_of_them():
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(limits=limits) as client:
            return await asyncio.gather(*(one(client, number) for number in range(100)))

    refused = []
    answers = asyncio.run(all_of_them())
    assert answers == ["left" if number % 10 == 0 else "7" for number in range(100)]
    assert refused and set(refused) == {"1"}
    until(lambda: backend.under_way == 0)
    assert metrics(served)["openrlhf_math_requests_under_way",] == 0


def test_health_and_models(served, backend):
    assert httpx.get(f"{served}/v1/models").json()["data"][0]["id"] == "tiny"
    assert httpx.get(f"{served}/health").status_code == 200
    backend.dead = True
    reply = httpx.get(f"{served}/health")
    assert reply.status_code == 503 and "has died" in reply.json()["error"]["message"]


def test_metrics_count_what_was_solved(served):
    for _ in range(3):
        chat(served)
    result = metrics(served)
    assert result["openrlhf_math_requests_total", "200"] == result["openrlhf_math_solutions_total", "attempts"] == 3
    assert result["openrlhf_math_attempts_total",] == 12 and result["openrlhf_math_tokens_total",] == 120
    assert result["openrlhf_math_unscored_attempts_total",] == 3
    assert result["openrlhf_math_solve_seconds_count",] == 3


@pytest.fixture
def guarded(backend):
    """A server that asks for a key; gives its address."""
    app = build_app(backend, service(), count_words)
    app.add_middleware(RequiresKey, expected=digest("right-key"))
    with running(app) as url:
        yield url


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong-key"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "right-key"}, 401),
        ({"Authorization": "Basic right-key"}, 401),
        ({"Authorization": "Bearer right-key\xff"}, 401),
        ({"Authorization": "Bearer right-key"}, 200),
        ({"Authorization": "bearer  right-key"}, 200),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
def test_requests_without_the_key_are_refused(guarded, header, status, path):
    headers = {name: value.encode("latin-1") for name, value in header.items()}
    result = httpx.get(guarded + path, headers=headers)
    assert result.status_code == status
    if status == 401:
        assert result.json()["error"]["code"] == "invalid_api_key" and result.headers["www-authenticate"] == "Bearer"
        assert "right-key" not in result.text


def test_without_the_key_only_health_is_answered(guarded, backend):
    body = {"messages": [{"role": "user", "content": "1+1?"}]}
    assert httpx.post(guarded + "/v1/chat/completions", json=body).status_code == 401
    assert httpx.get(guarded + "/health").status_code == 200
    assert httpx.get(guarded + "/nowhere").status_code == 401


def test_server_listens_on_loopback_unless_asked():
    from openrlhf_math.cli.serve import build_parser

    assert build_parser("serve").parse_args(["--model", "m"]).host == "127.0.0.1"


def test_missing_key_is_refused_before_start(monkeypatch, capsys):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert main(["serve", "--model", "m/m", "--api-key-env", "NO_SUCH_KEY"]) == 2
    assert "--api-key-env NO_SUCH_KEY" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["schl\u00fcssel", "two words", "two\nlines"])
def test_key_that_no_client_can_send_is_refused_before_start(monkeypatch, capsys, key):
    monkeypatch.setenv("SERVER_KEY", key)
    assert main(["serve", "--model", "tiny", "--base-url", "http://127.0.0.1:9/v1", "--api-key-env", "SERVER_KEY"]) == 2
    assert "SERVER_KEY" in capsys.readouterr().err
