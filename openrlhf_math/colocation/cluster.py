"""The Ray cluster of a command: its start, its free devices, and whether its head is alive."""

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

import ray
from ray._private import parameter

from openrlhf_math.colocation import preloaded
from openrlhf_math.colocation.layout import cores
from openrlhf_math.errors import UserError, brief, first_line
from openrlhf_math.patches.patch import substituted

PRESTART = ("RAY_prestart_worker_first_driver", "RAY_enable_worker_prestart")
PLACE = re.compile(r"[^/\s]+:\d+")  # a host and a port


def join_cluster(**options: Any) -> None:
    """Connect to the cluster in RAY_ADDRESS. options: of `ray.init`. Raises UserError if none answers there."""
    address = os.environ["RAY_ADDRESS"]
    fix = "correct it, or unset RAY_ADDRESS to start Ray on this machine"
    place = address.removeprefix("ray://")
    if PLACE.fullmatch(place) and (refused := refusal(place)):  # Ray itself would try for half a minute
        raise UserError(f"RAY_ADDRESS {address}: no Ray cluster answers there ({refused}); {fix}")
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"RAY_ADDRESS {address}: Ray cannot be joined there ({first_line(error)}); {fix}") from None


def start_or_join(local: Mapping[str, Any], **common: Any) -> None:
    """Connect to the cluster in RAY_ADDRESS (which `ray job submit` sets), else start one on this machine for this run
    alone, whatever else runs here.

    local: options of `ray.init` for a cluster that starts here. common: for both. Raises UserError.
    """
    if os.environ.get("RAY_ADDRESS"):
        join_cluster(**common)
        return
    if forked := preloaded.py_executable():
        common["runtime_env"] = common.get("runtime_env", {}) | forked
    try:
        with only_what_is_used(common.get("log_to_driver", True)):
            ray.init(address="local", include_dashboard=False, **local, **common)
    except Exception as error:  # Ray raises this very class where its processes do not answer within 30 s
        raise UserError(
            f"Ray does not start on this machine ({brief(error, 300)}); free processors and memory, and run the "
            "command again"
        ) from None


def shut_down() -> None:
    """End what `start_or_join` started."""
    ray.shutdown()
    preloaded.end()


@contextlib.contextmanager
def only_what_is_used(logs: bool) -> Iterator[None]:
    """While the block runs, a cluster starts without processes that no run of ours uses.

    These are the autoscaler, the dashboard's server (`include_dashboard=False` only hides it), two idle workers, and
    without `logs` the one that copies the workers' output to this terminal: 2.5 s of a core and 270 MB.
    """
    parameters = partial(parameter.RayParams, no_monitor=True, include_log_monitor="yes" if logs else "")
    for name in PRESTART:
        os.environ.setdefault(name, "0")
    with (
        substituted(parameter, RayParams=parameters),
        substituted(ray._private.node.Node, start_api_server=lambda *_, **__: None),
    ):
        yield


@contextlib.contextmanager
def cluster(environment: Mapping[str, str], processes: int) -> Iterator[None]:
    """Ray while the block runs: the cluster this process is connected to, else the one in RAY_ADDRESS (which
    `ray job submit` sets), else one on this machine for this run alone.

    environment: variables of every worker. processes: how many actors of one CPU must fit.
    """
    if ray.is_initialized():
        yield
        return
    common = {"runtime_env": {"env_vars": dict(environment)}, "log_to_driver": False, "logging_level": "error"}
    if not os.environ.get("RAY_ADDRESS"):
        os.environ.update(environment)
    preloaded.begin(environment)
    start_or_join({"num_cpus": max(cores(), processes)}, **common)
    try:
        yield
    finally:
        shut_down()


def check_room(flag: str, cpus: float, gpus: float) -> None:
    """Raise UserError, which names `flag`, if the cluster has not so many CPUs and GPUs at all."""
    for name, wanted in (("GPU", gpus), ("CPU", cpus)):
        there = ray.cluster_resources().get(name, 0)
        if there < wanted:
            raise UserError(
                f"{flag}: the Ray cluster has {there:g} of the {wanted:g} {name}s they need; lower it, or add nodes"
            )


def check_one_machine(device: str, wanted: int, nodes: list[dict]) -> None:
    """Raise UserError if a run on CPUs can only be spread over machines: there weights travel through shared memory.

    wanted: devices of the run. nodes: as `ray.nodes()` lists them. On GPUs weights travel by CUDA IPC on the devices
    that policy and engine share, or by NCCL, which reaches other machines.
    """
    if device != "cpu":
        return
    devices: dict[str, float] = {}
    for node in nodes:
        if node["Alive"]:
            address = node["NodeManagerAddress"]
            devices[address] = devices.get(address, 0) + node["Resources"].get("GPU", 0)
    if max(devices.values(), default=0) < wanted:
        there = ", ".join(f"{count:g} on {address}" for address, count in sorted(devices.items()) if count)
        raise UserError(
            f"--math.device cpu: the run wants {wanted} devices on one machine, since new weights go to the engines "
            f"through its shared memory; the Ray cluster has {there}. Start Ray with --num-gpus={wanted} on one of them"
        )


CONNECT_SECONDS = 5.0


def lost_connection() -> str | None:
    """What is wrong if the cluster's head, or this machine's part of the cluster, takes no connection; None if both do,
    or if this process is connected to no cluster."""
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
    (found,) = (each for each in ray.nodes() if each["NodeID"] == node)
    return f"{found['NodeManagerAddress']}:{found['NodeManagerPort']}"


LOST = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)
