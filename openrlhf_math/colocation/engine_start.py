"""Starting vLLM's engine in a Ray actor: quickly on a CPU, and with the cause where it does not start or dies."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from openrlhf_math.colocation.compose import substituted

# As many characters of its output are searched, from the end, for why an engine did not start or died.
ENGINE_WORDS = 100_000
ENGINE_ERROR = re.compile(
    r"^\(EngineCore[^)]*\) (?:ERROR [^\[\n]*\[[^\]\n]*\] )?([\w.]+(?:Error|Exception)\b.*)$", re.MULTILINE
)


@contextmanager
def engine_start(device: str) -> Iterator[None]:
    """While the block runs, vLLM forks its processes on the CPU instead of spawning them.

    vLLM insists on spawning in a Ray actor, for CUDA's sake: each of its two processes then imports torch and
    vLLM anew, 8 s each on a laptop. No CUDA context, no OpenMP team and no Ray call exist before this fork.

    Raises RuntimeError with the engine process's own last error, where it wrote one, for vLLM's "see above".
    """
    try:
        if device != "cpu":
            yield
            return
        import multiprocessing

        from vllm.utils import system_utils

        forking = SimpleNamespace(get_context=lambda method: multiprocessing.get_context("fork"))
        with substituted(system_utils, multiprocessing=forking):
            yield
    except RuntimeError as error:
        if (cause := engine_error()) and cause not in str(error):
            raise RuntimeError(f"the vLLM engine did not start: {cause}") from error
        raise


def engine_error() -> str:
    """The last error that an engine process wrote to this one's stderr or stdout, if these are files (in a Ray actor).

    An engine that does not start leaves a traceback in stderr; one that dies later logs it to stdout.
    """
    for stream in (Path("/proc/self/fd/2"), Path("/proc/self/fd/1")):
        if stream.is_file():  # else a terminal, where people see it
            errors = ENGINE_ERROR.findall(stream.read_text(errors="replace")[-ENGINE_WORDS:])
            if errors:
                return errors[-1].strip()
    return ""
