"""How often an actor may be started again: so many times within a window, not over its whole life."""

import json
import time
from collections.abc import Sequence

from openrlhf_math.errors import UserError

NAMESPACE = "openrlhf_math starts"
RESTARTS = 3
WINDOW_SECONDS = 600.0


def limited(actor: type) -> type:
    """The class, for an actor that is made with `max_restarts=-1`.

    Its constructor fails, and Ray gives the actor up, at more than RESTARTS restarts within WINDOW_SECONDS.
    """

    class Limited(actor):
        def __init__(self, *args) -> None:
            _note_start()
            super().__init__(*args)

    Limited.__name__ = Limited.__qualname__ = actor.__name__
    return Limited


def recent(starts: Sequence[float], now: float) -> list[float]:
    """Those of the starts that lie within the window, and this one. Raises UserError if they are too many."""
    kept = [*(start for start in starts if now - start < WINDOW_SECONDS), now]
    if len(kept) > 1 + RESTARTS:
        raise UserError(f"it died {len(kept) - 1} times within {WINDOW_SECONDS / 60:.0f} minutes and is given up")
    return kept


def _note_start() -> None:
    """In Ray's store, by the actor's identity, which a restart keeps."""
    import ray
    from ray.experimental import internal_kv

    actor_id = ray.get_runtime_context().get_actor_id()
    starts = json.loads(internal_kv._internal_kv_get(actor_id, namespace=NAMESPACE) or b"[]")
    internal_kv._internal_kv_put(actor_id, json.dumps(recent(starts, time.time())), True, namespace=NAMESPACE)
