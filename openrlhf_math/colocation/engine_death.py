"""Why a vLLM engine died: its actor leaves the cause in Ray's store, because Ray says only that a process ended.

The store is the cluster's, in the head node's memory: an actor on another machine reaches it too.
"""

import os
from typing import NoReturn

from openrlhf_math.colocation.engine_start import engine_error
from openrlhf_math.errors import brief

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


def _leave(cause: str) -> None:
    """In place of what was left before."""
    import ray
    from ray.experimental import internal_kv

    actor_id = ray.get_runtime_context().get_actor_id()
    internal_kv._internal_kv_put(actor_id, cause, namespace=NAMESPACE)
