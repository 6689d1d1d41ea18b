"""The Ray cluster of a command that does not train."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from openrlhf_math.colocation.layout import cores
from openrlhf_math.errors import UserError

PLACE = re.compile(r"[^/\s]+:\d+")  # a host and a port


def join_cluster(**options: Any) -> None:
    """Connect to the cluster in RAY_ADDRESS. options: of `ray.init`. Raises UserError if none answers there."""
    import ray

    from openrlhf_math.colocation.ray_head import refusal

    address = os.environ["RAY_ADDRESS"]
    fix = "correct it, or unset RAY_ADDRESS to start Ray on this machine"
    place = address.removeprefix("ray://")
    if PLACE.fullmatch(place) and (refused := refusal(place)):  # Ray itself would try for half a minute
        raise UserError(f"RAY_ADDRESS {address}: no Ray cluster answers there ({refused}); {fix}")
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"RAY_ADDRESS {address}: Ray cannot be joined there ({first_line}); {fix}") from None


@contextlib.contextmanager
def cluster(environment: Mapping[str, str], processes: int) -> Iterator[None]:
    """Ray while the block runs: the cluster this process is connected to, else the one in RAY_ADDRESS (which
    `ray job submit` sets), else one on this machine for this run alone.

    environment: variables of every worker. processes: how many actors of one CPU must fit.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    common: dict[str, Any] = {
        "runtime_env": {"env_vars": dict(environment)},
        "log_to_driver": False,
        "logging_level": "error",
    }
    if os.environ.get("RAY_ADDRESS"):
        join_cluster(**common)
    else:
        os.environ.update(environment)
        ray.init(address="local", include_dashboard=False, num_cpus=max(cores(), processes), **common)
    try:
        yield
    finally:
        ray.shutdown()


def check_room(flag: str, cpus: float, gpus: float) -> None:
    """Raise UserError, which names `flag`, if the cluster has not so many CPUs and GPUs at all."""
    import ray

    for name, wanted in (("GPU", gpus), ("CPU", cpus)):
        there = ray.cluster_resources().get(name, 0)
        if there < wanted:
            raise UserError(
                f"{flag}: the Ray cluster has {there:g} of the {wanted:g} {name}s they need; lower it, or add nodes"
            )


def check_one_machine(device: str, wanted: int, nodes: list[dict]) -> None:
    """Raise UserError if a run on CPUs can only be spread over machines: there weights travel through shared memory.

    wanted: devices of the run. nodes: as `ray.nodes()` tells them. On GPUs weights travel by CUDA IPC on the devices
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
