"""The life of a vLLM engine in a Ray actor: its start, quick on a CPU; why it died; how often it may start again.

Causes and starts are in the cluster's store, in the head node's memory: an actor on another machine reaches it too, and
Ray by itself says only that a process ended.
"""

import ctypes
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from openrlhf_math.errors import UserError, brief
from openrlhf_math.patches.patch import substituted

OMP_PAUSE_HARD = 2  # of omp.h's omp_pause_resource_t
# As many characters of its output are searched, from the end, for why an engine did not start or died.
ENGINE_WORDS = 100_000
ENGINE_ERROR = re.compile(
    r"^\(EngineCore[^)]*\) (?:ERROR [^\[\n]*\[[^\]\n]*\] )?([\w.]+(?:Error|Exception)\b.*)$", re.MULTILINE
)


@contextmanager
def engine_start(device: str) -> Iterator[None]:
    """While the block runs, vLLM forks its processes on the CPU instead of spawning them.

    vLLM insists on spawning in a Ray actor, for CUDA's sake: each of its two processes then imports torch and
    vLLM again, 8 s each on a laptop. No CUDA context and no Ray call exist before this fork, and threads of OpenMP are
    ended: a process that has computed with torch may start an engine.

    Raises RuntimeError with the engine process's own last error, where it wrote one, for vLLM's "see above".
    """
    try:
        if device != "cpu":
            yield
            return
        import multiprocessing

        from vllm.utils import system_utils

        end_openmp_threads()
        forking = SimpleNamespace(get_context=lambda method: multiprocessing.get_context("fork"))
        with substituted(system_utils, multiprocessing=forking):
            yield
    except RuntimeError as error:
        if (cause := engine_error()) and cause not in str(error):
            raise RuntimeError(f"the vLLM engine did not start: {cause}") from error
        raise


def end_openmp_threads() -> None:
    """End this thread's team of OpenMP; the next parallel loop makes another.

    A forked process has none of the team's threads and would wait for them in its first parallel loop for ever.
    omp_pause_resource_all(omp_pause_hard): OpenMP 5.0, section 3.2.44; in GCC's library and in LLVM's.
    """
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return
    lines = (line.split(maxsplit=5) for line in maps.read_text().splitlines())
    loaded = {fields[5] for fields in lines if len(fields) == 6 and re.search(r"/lib[gi]?omp[^/]*\.so", fields[5])}
    for path in sorted(loaded):
        library = ctypes.CDLL(path)
        if hasattr(library, "omp_pause_resource_all"):
            library.omp_pause_resource_all(OMP_PAUSE_HARD)


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


NAMESPACE = "openrlhf_math engines"
MOST = 500  # characters of a cause


def leave_cause(error: Exception) -> None:
    """Called in an actor whose engine does not start."""
    _leave(brief(error, MOST))


def end_actor() -> NoReturn:
    """End this process, a Ray actor whose engine died, for Ray to start both again."""
    _leave(engine_error()[:MOST])
    os._exit(1)


def take_cause(actor_id: str) -> str:
    """What an actor left; "" if nothing: it was killed, or its machine is gone. actor_id: in hexadecimal digits.

    It is taken away: a kill that follows must not get the cause of the death before.
    """
    from ray.experimental import internal_kv

    cause = internal_kv._internal_kv_get(actor_id, namespace=NAMESPACE) or b""
    internal_kv._internal_kv_del(actor_id, namespace=NAMESPACE)
    return cause.decode()


@contextmanager
def engine_errors(who: str, again: str) -> Iterator[None]:
    """What an engine in a Ray actor raises within the block is raised as it was there.

    Raises UserError if the engine died. who: the engine, in its words; again: what to do then.
    """
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        raise (error if error.cause is None else error.cause) from None
    except ray.exceptions.RayActorError as error:
        cause = take_cause(error.actor_id) if error.actor_id else ""
        reason = brief(error, MOST) if error.actor_init_failed else type(error).__name__
        raise UserError(f"{who} died ({cause or reason}); {again}") from None


def _leave(cause: str) -> None:
    """In place of what was left before."""
    import ray
    from ray.experimental import internal_kv

    actor_id = ray.get_runtime_context().get_actor_id() or ""
    internal_kv._internal_kv_put(actor_id, cause, namespace=NAMESPACE)


STARTS = "openrlhf_math starts"
RESTARTS = 3
WINDOW_SECONDS = 600.0


def limited(actor: type) -> type:
    """The class, for an actor that is made with `max_restarts=-1`.

    Its constructor fails, and Ray gives the actor up, at more than RESTARTS restarts within WINDOW_SECONDS. Where it
    raises UserError, `take_cause` has the sentence.
    """

    class Limited(actor):
        def __init__(self, *args: Any) -> None:
            try:
                _note_start()
                super().__init__(*args)
            except UserError as error:  # Ray's own error has it in the midst of a traceback
                _leave(str(error))
                raise

    Limited.__name__ = Limited.__qualname__ = actor.__name__
    return Limited


def recent(starts: Sequence[float], now: float) -> list[float]:
    """Those of the starts within the window, and this one. Raises UserError if they are too many."""
    kept = [*(start for start in starts if now - start < WINDOW_SECONDS), now]
    if len(kept) > 1 + RESTARTS:
        raise UserError(f"it died {len(kept) - 1} times within {WINDOW_SECONDS / 60:.0f} minutes and is given up")
    return kept


def _note_start() -> None:
    """In Ray's store, by the actor's identity, which a restart keeps."""
    import ray
    from ray.experimental import internal_kv

    actor_id = ray.get_runtime_context().get_actor_id() or ""
    starts = json.loads(internal_kv._internal_kv_get(actor_id, namespace=STARTS) or b"[]")
    internal_kv._internal_kv_put(actor_id, json.dumps(recent(starts, time.time())), True, namespace=STARTS)
