"""The app in Ray Serve."""

import contextlib
import importlib.metadata
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import ray
from ray import serve
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openrlhf_math.errors import UserError
from openrlhf_math.serving.access import RequiresKey
from openrlhf_math.serving.app import build_app
from openrlhf_math.serving.counting import token_counter
from openrlhf_math.serving.plan import Service
from openrlhf_math.serving.protocol import prepare
from openrlhf_math.serving.proxy_errors import ErrorsInForm
from openrlhf_math.serving.remote import RemoteReranker

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
    """Middleware that tells an app of a client that left: Ray Serve cancels what waits for its messages instead."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told() -> Message:
            try:
                return await receive()
            except ray.exceptions.TaskCancelledError:
                return {"type": "http.disconnect"}

        await self._app(scope, told, send)


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
        serve.shutdown()
