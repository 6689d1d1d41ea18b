"""Is the Ray cluster still there? A driver that waits for an answer learns it late, and from Ray without a word."""

import socket
from functools import lru_cache

import ray

CONNECT_SECONDS = 5.0


def trouble() -> str | None:
    """What is wrong if the cluster's head, or this machine's part of the cluster, takes no connection; None if both do,
    or if this process is connected to no cluster."""
    import ray

    if not ray.is_initialized():
        return None
    head = ray.get_runtime_context().gcs_address
    if refused := refusal(head):
        return f"Ray's head (gcs_server at {head}) is gone: {refused}"
    here = raylet(head, ray.get_runtime_context().get_node_id())
    if refused := refusal(here):
        return f"Ray on this machine (the raylet at {here}) is gone: {refused}"
    return None


def refusal(address: str) -> OSError | None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        return error
    return None


@lru_cache
def raylet(head: str, node: str) -> str:
    """Address of a node's raylet; the head is asked once."""
    import ray

    (found,) = (each for each in ray.nodes() if each["NodeID"] == node)
    return f"{found['NodeManagerAddress']}:{found['NodeManagerPort']}"


LOST = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)
