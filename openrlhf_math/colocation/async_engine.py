"""vLLM's asynchronous engine where nothing is trained: for teachers, samplers and scorers."""

import os
import socket

from openrlhf_math.colocation.layout import engine_start, inference_arguments
from openrlhf_math.errors import UserError


def start_engine(flag: str, model: str, device: str, **arguments):
    """An `AsyncLLM` over a model. arguments: of vLLM's engine, besides those of the device.

    Raises UserError, which names `flag`, if vLLM cannot serve the model.
    """
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        with engine_start(device):
            return AsyncLLM.from_engine_args(
                AsyncEngineArgs(model, dtype="bfloat16", **inference_arguments(device) | arguments)
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{flag} {model}: vLLM cannot start with it ({one_line(error)})") from error


def generation_arguments(device: str) -> dict[str, object]:
    """Engine arguments for completions that may have seeds of their own and share their prompts."""
    # A prompt prefilled in parts cannot have a seed of its own on the CPU: vLLM 0.29 rewinds its generator by an
    # offset, which only CUDA's have.
    return {"enable_prefix_caching": True, "enable_chunked_prefill": device != "cpu"}


async def end_with_this_process(engine) -> None:
    """Let the engine's workers end after a `kill -9` of this process. Call it in the event loop that serves the engine.

    vLLM's own processes would stay, and hold the memory that the next run needs.
    """
    await engine.collective_rpc("end_with", args=(socket.gethostname(), os.getpid()))


def one_line(error: object) -> str:
    """The beginning of an error's words."""
    return " ".join(str(error).split())[:300]
