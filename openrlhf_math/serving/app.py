"""The endpoints, over any solver: `/v1/chat/completions`, `/v1/models`, `/health`, `/metrics`; and access to them.

With `stream: true` a response is a series of server-sent events. There is no answer before the vote, so it comes in one
piece; until then every attempt that is counted is announced in `openrlhf_math.progress` of a chunk without text.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, Protocol, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from openrlhf_math.concurrency import closing, end, in_thread, within
from openrlhf_math.rerank.budget import Limits
from openrlhf_math.rerank.reranker import Progress, Solved
from openrlhf_math.rerank.roles import RequestError, Unavailable, Unmeasured
from openrlhf_math.rerank.solver import Method, Solution
from openrlhf_math.rerank.task import Turn
from openrlhf_math.serving.errors import ApiError, ClientLeft
from openrlhf_math.serving.plan import Plan, Service, check_name, plan, response
from openrlhf_math.serving.protocol import ChatRequest, ChatResponse, SolveOptions, Usage, now, read_request

ANSWERS_WITHIN = 1.0  # seconds


class Health:
    """Of one solver. Only one check runs at a time."""

    def __init__(self, check: Callable[[], Awaitable[None]], seconds: float) -> None:
        """check: raises an error if something is wrong. seconds: its limit; after it the solver is unavailable."""
        self._check, self._seconds = check, seconds
        self._known: Exception | None = Unavailable("the solver has not answered yet")
        self._checking: asyncio.Task | None = None

    async def say(self) -> None:
        """Raises what is wrong: what this check finds within ANSWERS_WITHIN seconds, else what was last known.

        A good answer of an earlier check says nothing about now, and is not repeated.
        """
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._learn())
        await asyncio.wait([self._checking], timeout=ANSWERS_WITHIN)
        if self._known is not None:
            raise self._known
        if not self._checking.done():
            raise Unavailable(f"the solver has not answered for {ANSWERS_WITHIN:g} s")

    async def _learn(self) -> None:
        try:
            await within(self._seconds, self._check())
        except TimeoutError:
            self._known = Unavailable(f"the solver has not answered for {self._seconds:.0f} s")
        except Exception as error:
            self._known = error
        else:
            self._known = None


SECONDS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """One server's."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        name = "openrlhf_math_{}".format
        self.requests = Counter(name("requests"), "Requests that ended, by HTTP status; 499: the client left",
                                ["status"], registry=registry)  # fmt: skip
        self.under_way = Gauge(name("requests_under_way"), "Requests being solved", registry=registry)
        self.ended = Counter(name("solutions"), "Solutions, by what ended them", ["ended"], registry=registry)
        self.unanswered = Counter(name("unanswered"), "Solutions without an answer", registry=registry)
        self.attempts = Counter(name("attempts"), "Attempts made", registry=registry)
        self.unscored = Counter(name("unscored_attempts"), "Attempts whose score is not a number", registry=registry)
        self.tokens = Counter(name("tokens"), "Tokens written", registry=registry)
        self.saved = Counter(name("tokens_saved"), "Tokens saved by stopping early, estimated", registry=registry)
        self.seconds = Histogram(name("solve_seconds"), "From the first request to the decision", registry=registry,
                                 buckets=SECONDS)  # fmt: skip

    def solved(self, solution: Solution) -> None:
        decision = solution.decision
        self.ended.labels(decision.ended).inc()
        self.unanswered.inc(decision.attempt is None)
        self.attempts.inc(decision.attempts)
        self.unscored.inc(decision.unscored if solution.scored else 0)
        self.tokens.inc(decision.tokens)
        self.saved.inc(decision.tokens_saved)
        self.seconds.observe(solution.seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


MOST_BYTES = 4 << 20  # of a request
READ_SECONDS = 60.0  # for a request to arrive
PARSE_SECONDS = 300.0  # for it to be read; the first waits for vLLM's model of it
GRACE_SECONDS = 20.0  # beyond the budget, for the solver to end by itself
HEALTH_SECONDS = 10.0
CLIENT_LEFT = 499
CHAT = "/v1/chat/completions"


class Backend(Protocol):
    """A solver. Cancelling what it returns, or closing it, cancels the work."""

    def stream(self, problem: str, method: Method, limits: Limits) -> AsyncGenerator[Progress | Solved, None]:
        """A `Progress` for every attempt that is counted, then the `Solved`. Raises Unavailable, or ClientLeft."""

    async def check(self) -> None:
        """Raises Unavailable if it does not answer."""


def build_app(backend: Backend, service: Service, count_tokens: Callable[[Turn], int]) -> FastAPI:
    """count_tokens: of the prompt of a turn, which `usage` reports."""
    app = FastAPI(title="openrlhf-math", docs_url=None, redoc_url=None)
    metrics, well = Metrics(), Health(backend.check, HEALTH_SECONDS)
    busy, started = 0, now()

    @contextlib.contextmanager
    def place() -> Iterator[None]:
        """One of `most_requests`."""
        nonlocal busy
        if busy >= service.most_requests:
            raise ApiError(
                429, f"{busy} requests are under way, more than this server takes; try again later", code="full"
            )
        busy += 1
        metrics.under_way.set(busy)
        try:
            yield
        finally:
            busy -= 1
            metrics.under_way.set(busy)

    @app.post(CHAT, response_model=ChatResponse, openapi_extra=_body_schema())
    async def chat_completions(request: Request) -> ChatResponse | StreamingResponse:
        wanted = await within(PARSE_SECONDS, in_thread(read_request, await _read(request)))
        planned = plan(wanted, service)
        assert planned.limits.seconds is not None  # a server gives its own where a request has none
        end_by = Deadline(planned.limits.seconds + GRACE_SECONDS)
        reply: ChatResponse | StreamingResponse
        try:
            if wanted.stream:
                events = _events(wanted, planned, end_by)
                first = await _unless_left(request, anext(events), end_by)
                reply = StreamingResponse(_after(first, events, end_by), media_type="text/event-stream")
            else:
                reply = await _unless_left(request, _whole(wanted, planned, end_by), end_by)
        except asyncio.CancelledError:  # which Ray Serve does when the client leaves
            metrics.requests.labels(str(CLIENT_LEFT)).inc()
            raise
        metrics.requests.labels("200").inc()
        return reply

    async def _whole(wanted: ChatRequest, planned: Plan, end_by: Deadline) -> ChatResponse:
        with place():
            solved = await _last(backend.stream(planned.problem, planned.method, planned.limits))
            return await _answer(solved, wanted, planned, end_by)

    async def _events(wanted: ChatRequest, planned: Plan, end_by: Deadline) -> AsyncGenerator[bytes, None]:
        """Server-sent events; nothing before the first attempt is counted, so that what is refused has its status."""
        name, identity, created = service.name, wanted.identity, now()
        prompt_tokens = None
        with place():
            stream = backend.stream(planned.problem, planned.method, planned.limits)
            async with closing(stream):
                begun = False
                async for news in stream:
                    answer = await _answer(news, wanted, planned, end_by) if isinstance(news, Solved) else None
                    if not begun:
                        yield event(first_chunk(identity, created, name))
                        begun = True
                    if isinstance(news, Progress):
                        usage = None
                        if wanted.continuous_usage:
                            if prompt_tokens is None:
                                prompt_tokens = await within(end_by.left(), in_thread(_prompt_tokens, planned))
                            usage = Usage.of(prompt_tokens, news.tokens)
                        yield event(progress_chunk(identity, created, name, news, usage))
                    elif answer is not None:
                        for chunk in last_chunks(identity, created, answer, wanted.usage, wanted.continuous_usage):
                            yield event(chunk)
        yield b"data: [DONE]\n\n"

    async def _answer(solved: Solved, wanted: ChatRequest, planned: Plan, end_by: Deadline) -> ChatResponse:
        """Counting tokens and choosing further answers take time, the second may be a user's rule."""
        solution = solved.solution
        if solution is None:
            raise RequestError(solved.error)
        metrics.solved(solution)

        def made() -> ChatResponse:
            return response(solution, wanted, service, planned.method.rule, _prompt_tokens(planned))

        return await within(end_by.left(), in_thread(made))

    def _prompt_tokens(planned: Plan) -> int:
        return count_tokens(planned.method.turns(planned.problem)(0))

    def read(path: str) -> Callable[[Callable], Callable]:
        """For GET, and for the HEAD of checks."""
        return lambda endpoint: app.head(path, include_in_schema=False)(app.get(path)(endpoint))

    card = {"id": service.name, "object": "model", "created": started, "owned_by": "openrlhf-math"}

    @read("/v1/models")
    async def models() -> dict:
        return {"object": "list", "data": [card]}

    @read("/v1/models/{name:path}")
    async def model(name: str) -> dict:
        check_name(name, service)
        return card

    @read("/health")
    async def health() -> dict:
        await well.say()
        return {"status": "ok", "requests_under_way": busy}

    @read("/metrics")
    async def metrics_page() -> Response:
        return Response(metrics.text(), media_type=metrics.content_type)

    _handle_errors(app, metrics)
    return app


KINDS: dict[type[Exception], Callable[[Any], ApiError]] = {
    ApiError: lambda error: error,
    RequestError: lambda error: ApiError(400, str(error), "messages"),
    Unmeasured: lambda error: ApiError(400, str(error), "openrlhf_math.rule"),
    Unavailable: lambda error: ApiError(503, str(error), code="unavailable"),
    ClientLeft: lambda error: ApiError(CLIENT_LEFT, "the client left"),
    TimeoutError: lambda error: ApiError(504, "the time was up, and the solver did not end by itself", code="timeout"),
    HTTPException: lambda error: ApiError(error.status_code, str(error.detail)),
    Exception: lambda error: ApiError(500, "the server failed; its log says why", code="internal_error"),
}


def _handle_errors(app: FastAPI, metrics: Metrics) -> None:
    """Whatever ends a request is a response."""

    async def tell(request: Request, error: Exception) -> JSONResponse:
        api_error = _as_api_error(error)
        if request.url.path == CHAT:
            metrics.requests.labels(str(api_error.status)).inc()
        headers = {"Retry-After": "1"} if api_error.status in (429, 503) else getattr(error, "headers", None)
        return JSONResponse(api_error.body(), api_error.status, headers)

    for kind in KINDS:
        app.add_exception_handler(kind, tell)


def _as_api_error(error: Exception) -> ApiError:
    return next(make(error) for kind, make in KINDS.items() if isinstance(error, kind))


Result = TypeVar("Result")


class Deadline:
    """So many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        return self._at - time.monotonic()


async def _read(request: Request) -> bytes:
    """The body. Raises ApiError for one that is too large, before it is all here, for one that does not arrive, for one
    that is compressed, since a few bytes could be gigabytes, and for one that is not sent as JSON.

    Any web page may make a browser send a form or plain text here. Before JSON, the browser asks the server.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError(
            415, f"the body is sent as {media_type[:40] or 'no type'}; send it as Content-Type: application/json"
        )
    if (encoding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        raise ApiError(415, f"the body is encoded as {encoding:.40}, which is not read; send it as it is")
    try:
        return await within(READ_SECONDS, _body(request))
    except TimeoutError:
        raise ApiError(408, f"the body has not arrived within {READ_SECONDS:.0f} s") from None


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > MOST_BYTES:
                raise ApiError(413, f"the body is larger than {MOST_BYTES >> 20} MiB")
    except ClientDisconnect:
        raise ClientLeft from None
    return bytes(body)


async def _unless_left(request: Request, work: Awaitable[Result], end_by: Deadline) -> Result:
    """What `work` gives. Cancels it, and raises ClientLeft, when the client disconnects before; raises TimeoutError."""
    task = asyncio.ensure_future(work)
    tasks: list[asyncio.Future] = [task, asyncio.ensure_future(_left(request))]
    try:
        done, _ = await asyncio.wait(tasks, timeout=end_by.left(), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientLeft if done else TimeoutError
    finally:
        await end(tasks)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _last(stream: AsyncGenerator[Progress | Solved, None]) -> Solved:
    last: Solved | None = None
    async with closing(stream):
        async for news in stream:
            if isinstance(news, Solved):
                last = news
    assert last is not None  # what every stream ends with
    return last


async def _after(first: bytes, events: AsyncGenerator[bytes, None], end_by: Deadline) -> AsyncGenerator[bytes, None]:
    """The stream with its first event, which is here already. What fails from now on is an event."""
    async with closing(events):
        yield first
        try:
            while True:
                yield await within(end_by.left(), anext(events))
        except StopAsyncIteration:
            pass
        except Exception as error:
            if not isinstance(error, (ApiError, RequestError, Unavailable, ClientLeft, TimeoutError)):
                logging.exception("a stream broke off")
            yield event(_as_api_error(error).body())


def _body_schema() -> dict:
    """Of the request, which is read by hand so that its size is bounded and its errors are in OpenAI's form."""
    description = "OpenAI's chat completion request, with the further fields of vLLM's server"
    schema: dict[str, Any] = {"type": "object", "description": description, "required": ["messages"]}
    schema["properties"] = {"openrlhf_math": SolveOptions.model_json_schema()}
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


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


def event(chunk: dict) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()


def first_chunk(identity: str, created: int, model: str) -> dict:
    return _chunk(identity, created, model, [_choice(0, {"role": "assistant", "content": ""})])


def progress_chunk(identity: str, created: int, model: str, progress: Progress, usage: Usage | None) -> dict:
    """usage: so far; None if it is not wanted."""
    state = {"attempts": progress.attempts, "answer": progress.answer, "votes": list(progress.votes)}
    chunk = _chunk(identity, created, model, [_choice(0, {})]) | {"openrlhf_math": {"progress": state}}
    return chunk | ({"usage": usage.model_dump()} if usage else {})


def last_chunks(identity: str, created: int, response: ChatResponse, usage: bool, continuous: bool) -> Iterator[dict]:
    """The answers, the end of each, and all that they rest on; then the usage, if it is wanted. continuous: each chunk
    has it."""
    spent = {"usage": response.usage.model_dump()}
    for chunk in _final_chunks(identity, created, response):
        yield chunk | (spent if continuous else {})
    if usage:
        yield _chunk(identity, created, response.model, []) | spent


def _final_chunks(identity: str, created: int, response: ChatResponse) -> Iterator[dict]:
    for choice in response.choices:
        delta = {"role": "assistant", "content": choice.message.content}
        yield _chunk(identity, created, response.model, [_choice(choice.index, delta)])
    ends = [_choice(choice.index, {}, choice.finish_reason) for choice in response.choices]
    report = response.openrlhf_math.model_dump(mode="json")
    yield _chunk(identity, created, response.model, ends) | {"openrlhf_math": report}


def _chunk(identity: str, created: int, model: str, choices: list[dict]) -> dict:
    return {"id": identity, "object": "chat.completion.chunk", "created": created, "model": model, "choices": choices}


def _choice(index: int, delta: dict, finish_reason: str | None = None) -> dict:
    return {"index": index, "delta": delta, "finish_reason": finish_reason}
