"""The app in this process, over a Reranker whose sampler or scorer is behind an endpoint: no Ray Serve."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

import uvicorn

from openrlhf_math.rerank.here import Engines, engines, reranker_here
from openrlhf_math.rerank.reranker import RerankerSettings
from openrlhf_math.rerank.roles import Gone, Messages
from openrlhf_math.rerank.task import Turn
from openrlhf_math.serving.app import RequiresKey, build_app
from openrlhf_math.serving.plan import Service
from openrlhf_math.serving.protocol import prepare

SHUTDOWN_SECONDS = 5  # for requests under way, after a signal


class _Server(uvicorn.Server):
    """One whose signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve_here(
    settings: RerankerSettings,
    service: Service,
    address: tuple[str, int],
    key: bytes | None,
    ready: Callable[[], None],
    ending: Callable[[], None],
    count_tokens: Callable[[Turn], int] | None = None,
    check_seconds: float = 15.0,
) -> str:
    """Answer at the address until a signal. Returns "", or why no problem will ever be solved again.

    Requests under way then end with what they have. Raises KeyboardInterrupt at a second signal, at once.

    ready: is called when it listens, ending: at a signal. key: digest of the one that clients must send.
    count_tokens: of a prompt; None: what the endpoint says of those it answered.
    """
    with engines(settings) as parts:
        return asyncio.run(_serve(settings, parts, service, address, key, ready, ending, count_tokens, check_seconds))


async def _serve(
    settings: RerankerSettings,
    parts: Engines,
    service: Service,
    address: tuple[str, int],
    key: bytes | None,
    ready: Callable[[], None],
    ending: Callable[[], None],
    count_tokens: Callable[[Turn], int] | None,
    check_seconds: float,
) -> str:
    async with reranker_here(settings, *parts) as (reranker, sampler):
        prompt_tokens: Callable[[Messages], int] = getattr(sampler, "prompt_tokens", lambda messages: 0)
        app = build_app(reranker, service, count_tokens or (lambda turn: prompt_tokens(turn.messages)))
        if key:
            app.add_middleware(RequiresKey, expected=key)
        prepare()
        host, port = address
        config = uvicorn.Config(
            app, host=host, port=port, log_level="error", timeout_graceful_shutdown=SHUTDOWN_SECONDS
        )
        server = _Server(config)
        loop, closing = asyncio.get_running_loop(), list[asyncio.Task[None]]()
        at_once = loop.create_future()

        def end() -> None:
            if closing:
                at_once.cancel()  # the second signal
                return
            ending()
            closing.append(loop.create_task(reranker.close()))
            server.should_exit = True

        for one in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(one, end)
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.05)
        if server.started:
            ready()
        while True:
            await asyncio.wait([serving, at_once], timeout=check_seconds, return_when=asyncio.FIRST_COMPLETED)
            if at_once.done():
                raise KeyboardInterrupt
            if serving.done():
                serving.result()
                return ""
            try:
                await reranker.check()
            except Gone as error:
                server.should_exit = True
                await serving
                return str(error)
            except Exception:
                continue  # /health says it
