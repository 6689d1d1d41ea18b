"""vLLM's asynchronous engine where nothing is trained: for teachers, samplers and scorers."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from openrlhf_math.colocation.engine_life import end_actor, engine_start
from openrlhf_math.colocation.layout import inference_arguments
from openrlhf_math.concurrency import end
from openrlhf_math.errors import BadValue, UserError, brief

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

WATCH_SECONDS = 0.5
ANSWER_SECONDS = 300.0  # for an engine to answer what is not a request


def start_engine(flag: str, model: str, device: str, **arguments: Any) -> "AsyncLLM":
    """An `AsyncLLM` over a model. arguments: of vLLM's engine, besides those of the device.

    Raises UserError, which names `flag`, if vLLM cannot serve the model.
    """
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        with engine_start(device):
            return AsyncLLM.from_engine_args(
                AsyncEngineArgs(model, **{"dtype": "bfloat16"} | inference_arguments(device) | arguments)
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{flag} {model}: vLLM cannot start with it ({brief(error, 300)})") from error


def shut_down(engine: "AsyncLLM") -> None:
    """End an engine, whether the event loop that it was used in still runs or not.

    vLLM leaves the closing of its sockets to that loop. Where the loop has ended they would stay open, and a garbage
    collection at any later time would wait for them for ever (`zmq.Context.term`).
    """
    resources = getattr(engine.engine_core, "resources", None)
    names = ("output_socket", "input_socket", "first_req_send_socket", "first_req_rcv_socket", "stats_update_socket")
    sockets = [getattr(resources, name, None) for name in names]
    task = getattr(resources, "output_queue_task", None)
    engine.shutdown()
    if task is not None and not task.get_loop().is_running():
        for one in sockets:
            if one is not None and not one.closed:
                one.close(linger=0)


class ServingSettings(Protocol):
    """What the settings of every engine that serves have. memory: a share of a GPU's."""

    @property
    def tensor_parallel(self) -> int: ...

    @property
    def max_context(self) -> int | None: ...

    @property
    def replicas(self) -> int: ...

    @property
    def max_concurrency(self) -> int: ...

    @property
    def memory(self) -> float: ...


def check_serving(settings: ServingSettings) -> None:
    """Raise BadValue where an engine's settings cannot work."""
    for name in ("tensor_parallel", "max_context", "replicas", "max_concurrency"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise BadValue(name, value, "at least 1")
    if not 0 < settings.memory <= 1:
        raise BadValue("memory", settings.memory, "more than 0 and at most 1")


def generation_arguments(device: str) -> dict[str, object]:
    """Engine arguments for completions that may have their own seeds and share their prompts."""
    # A prompt prefilled in parts cannot have its own seed on the CPU: vLLM 0.29 rewinds its generator by an
    # offset, which only CUDA's have.
    return {"enable_prefix_caching": True, "enable_chunked_prefill": device != "cpu"}


class ServingEngine:
    """What engines that serve requests have in common; `_engine` is vLLM's, `_cuda` whether it has a GPU, `_flag` what
    names its model."""

    _engine: "AsyncLLM"
    _cuda: bool
    _ready = False
    _flag = "--model"

    async def ready(self) -> None:
        """Before the first request, in the event loop that serves it. Raises UserError for an engine that has died.

        From then on the engine's processes end after a `kill -9` of this one. They would stay, and hold the memory that
        the next run needs.
        """
        if not self._ready:
            self._ready = True
            await self._ask(end_with_this_process(self._engine))
        elif self._engine.errored:
            self._died()

    async def sleep(self) -> bool:
        """Leave the device when the running requests are done; new ones wait.

        Returns whether anything moved: on a CPU there is nothing to leave.
        """
        if self._cuda:
            await self._ask(self._engine.sleep(level=1, mode="wait"))
        return self._cuda

    async def wake_up(self) -> bool:
        """Come back. Returns whether anything moved."""
        if self._cuda:
            await self._ask(self._engine.wake_up())
        return self._cuda

    async def _ask(self, question: Awaitable) -> None:
        with engine_may_die(self._flag):
            answered = await answers(self._engine, question)
        if not answered:
            self._died()

    def _died(self) -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        with engine_may_die(self._flag):
            raise EngineDeadError

    def shutdown(self) -> None:
        shut_down(self._engine)


async def answers(engine: "AsyncLLM", question: Awaitable) -> bool:
    """Whether an engine answers what is not a request. False if it dies, or is silent for ANSWER_SECONDS.

    vLLM fails the requests of a dead engine; a caller that asked it anything else would wait forever.
    """
    asked = asyncio.ensure_future(question)
    deadline = time.monotonic() + ANSWER_SECONDS
    try:
        while not asked.done() and not engine.errored and time.monotonic() < deadline:
            await asyncio.wait([asked], timeout=WATCH_SECONDS)
        if not asked.done():
            return False
        asked.result()
        return True
    finally:
        await end([asked])


@contextmanager
def engine_may_die(flag: str) -> Iterator[None]:
    """Requests to vLLM's engine. Should it die within a Ray actor, the actor ends too: Ray starts it again with a new
    engine and asks again. Elsewhere raises UserError."""
    import ray
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except EngineDeadError as error:
        if ray.is_initialized() and ray.get_runtime_context().get_actor_id():
            end_actor()
        raise UserError(f"{flag}: the engine died, its message is above") from error


async def end_with_engine(engine: "AsyncLLM") -> None:
    """End this process, a Ray actor, when its engine dies, for Ray to start both again. Never returns.

    vLLM fails the generations that a dead engine owes, but what was asked of it otherwise would wait for good.
    """
    while not engine.errored:
        await asyncio.sleep(WATCH_SECONDS)
    end_actor()


async def end_with_this_process(engine: "AsyncLLM") -> None:
    """Let the engine's workers end after a `kill -9` of this process. Call it in the event loop that serves it."""
    await engine.collective_rpc("end_with", args=(socket.gethostname(), os.getpid()))
