"""The app in Ray Serve, and the solver in its Ray actor as the app sees it."""

import contextlib
import http.client
import importlib.metadata
import json
import logging
import time
import warnings
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Any

import ray
from ray import serve
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.context import _get_global_client, _set_global_client
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openrlhf_math.concurrency import within
from openrlhf_math.errors import UserError
from openrlhf_math.rerank.budget import Limits
from openrlhf_math.rerank.reranker import Progress, Solved
from openrlhf_math.rerank.roles import Gone, Unavailable
from openrlhf_math.rerank.solver import Method
from openrlhf_math.serving.app import RequiresKey, build_app
from openrlhf_math.serving.errors import ClientLeft, ErrorsInForm
from openrlhf_math.serving.plan import Service, token_counter
from openrlhf_math.serving.protocol import prepare

ANSWERS_WITHIN = 10.0  # seconds
DRAIN_SECONDS = 10.0
SHUTDOWN_SECONDS = 30.0
HEALTH_SECONDS = 2.0


class RemoteReranker:
    """See `app.Backend`."""

    def __init__(self, reranker: "ActorHandle") -> None:
        """reranker: handle of a `Reranker` actor."""
        self._reranker = reranker

    async def stream(self, problem: str, method: Method, limits: Limits) -> AsyncGenerator[Progress | Solved, None]:
        answers: Any = self._reranker.stream.options(num_returns="streaming").remote(problem, method, limits)
        try:
            async for reference in answers:
                yield await reference
        except ray.exceptions.RayActorError as error:
            raise _unavailable(error) from error
        except ray.exceptions.TaskCancelledError:  # with the request in Ray Serve that it worked for
            raise ClientLeft from None
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        finally:
            ray.cancel(answers)  # nothing, where it is done

    async def check(self) -> None:
        try:
            await within(ANSWERS_WITHIN, self._reranker.check.remote())
        except TimeoutError:
            raise Unavailable(f"the reranker has not answered for {ANSWERS_WITHIN:.0f} s") from None
        except ray.exceptions.RayActorError as error:
            raise _unavailable(error) from error
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None


def hopeless(reranker: "ActorHandle") -> str:
    """Why no problem will ever be solved again, a sentence; "" if that is not so. For a process that serves."""
    try:
        ray.get(reranker.check.remote(), timeout=ANSWERS_WITHIN)
    except ray.exceptions.RayTaskError as error:
        return str(error.cause) if isinstance(error.cause, Gone) else ""
    except ray.exceptions.ActorDiedError as error:
        return str(_unavailable(error))
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        pass
    return ""


def _unavailable(error: ray.exceptions.RayActorError) -> Unavailable:
    kind = Gone if isinstance(error, ray.exceptions.ActorDiedError) else Unavailable
    return kind(f"the reranker has died ({type(error).__name__})")


if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.actor import ActorHandle


def check_serve() -> None:
    """Raises UserError where Ray Serve cannot work."""
    protobuf = importlib.metadata.version("protobuf")
    if int(protobuf.partition(".")[0]) > 6:  # its `FieldDescriptor.label` is gone, which Ray 2.55 reads
        raise UserError(
            f"Ray Serve {ray.__version__} does not work with protobuf {protobuf}; pip install protobuf==6.33.6"
        )


class SaysDisconnect:
    """Middleware that informs an app that a client has left: Ray Serve cancels what waits for its messages instead."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_or_end() -> Message:
            try:
                return await receive()
            except ray.exceptions.TaskCancelledError:
                return {"type": "http.disconnect"}

        await self._app(scope, receive_or_end, send)


@contextlib.contextmanager
def deployed(
    reranker: "ActorHandle", service: Service, model: str, host: str, port: int, key: bytes | None = None
) -> Iterator[None]:
    """Ray Serve answers on host and port while the block runs.

    reranker: handle of a `Reranker` actor. model: whose tokenizer counts prompts. key: digest of the one that clients
    must send; None: anyone may ask.

    One replica, which holds no model and only waits: what works side by side are the samplers and scorers.
    """

    def build() -> "FastAPI":
        app = build_app(RemoteReranker(reranker), service, token_counter(model))
        app.add_middleware(SaysDisconnect)
        if key:
            app.add_middleware(RequiresKey, expected=key)
        prepare()  # now: two threads that import what they share may meet half a module
        return app

    replica = serve.deployment(
        name="solve",
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=4 * service.most_requests,  # the app itself says that it is full
        health_check_period_s=10,
    )(serve.ingress(build)())
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="Passing `middlewares`")  # the app's own end with their replica
    serve.start(
        http_options={
            "host": host,
            "port": port,
            "keep_alive_timeout_s": 60,
            "middlewares": [Middleware(ErrorsInForm)],
        }
    )
    try:
        serve.run(replica.bind(), name="openrlhf-math", route_prefix="/")
        yield
    finally:
        _shut_down()


def _shut_down() -> None:
    """As `serve.shutdown`, which waits in a call that the controller's end breaks off: Ray then prints that it failed,
    and that it will be retried without end."""
    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return
    client.shutdown_cached_handles()
    with contextlib.suppress(ray.exceptions.RayError):
        controller: Any = client._controller  # Ray says that it has plain methods
        ray.get(controller.graceful_shutdown.remote(False), timeout=SHUTDOWN_SECONDS)
    end_by = time.monotonic() + SHUTDOWN_SECONDS
    with contextlib.suppress(ValueError):  # there is none of that name any more
        while time.monotonic() < end_by:
            ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
            time.sleep(0.1)
    _set_global_client(None)


def drain(reranker: "ActorHandle", host: str, port: int) -> None:
    """Requests under way end with what they have, and further ones are refused. Returns when all are answered, or
    DRAIN_SECONDS are over."""
    end_by = time.monotonic() + DRAIN_SECONDS
    with contextlib.suppress(ray.exceptions.RayError):
        ray.get(reranker.close.remote(), timeout=DRAIN_SECONDS)
    while time.monotonic() < end_by and _under_way(host, port):
        time.sleep(0.1)


def _under_way(host: str, port: int) -> bool:
    """Whether the server says that requests are being solved, or says nothing now."""
    place = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        connection = http.client.HTTPConnection(place, port, timeout=HEALTH_SECONDS)
        connection.request("GET", "/health")
        return json.loads(connection.getresponse().read()).get("requests_under_way") != 0
    except (OSError, ValueError, http.client.HTTPException):
        return True
