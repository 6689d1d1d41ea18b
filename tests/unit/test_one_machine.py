"""Which clusters a run on CPUs can use: its weights travel through one machine's shared memory."""

import pytest

from openrlhf_math.colocation.cluster import check_one_machine
from openrlhf_math.errors import UserError


def node(address: str, devices: float, alive: bool = True) -> dict:
    resources = {"CPU": 4.0} | ({"GPU": devices} if devices else {})
    return {"Alive": alive, "NodeManagerAddress": address, "Resources": resources}


@pytest.mark.parametrize(
    ("device", "nodes"),
    [
        ("cpu", [node("10.0.0.1", 2)]),
        ("cpu", [node("10.0.0.1", 0), node("10.0.0.2", 2)]),
        ("cpu", [node("10.0.0.1", 1), node("10.0.0.1", 1)]),  # two Ray nodes of one machine
        ("cuda", [node("10.0.0.1", 1), node("10.0.0.2", 1)]),
    ],
)
def test_single_machine_or_gpu_layouts_are_allowed(device, nodes):
    check_one_machine(device, 2, nodes)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("10.0.0.1", 1), node("10.0.0.2", 1)],
        [node("10.0.0.1", 1), node("10.0.0.2", 1), node("10.0.0.1", 1, alive=False)],
    ],
)
def test_cpu_run_on_several_machines_is_refused(nodes):
    with pytest.raises(UserError, match=r"wants 2 devices on one machine.*1 on 10.0.0.1, 1 on 10.0.0.2. Start Ray"):
        check_one_machine("cpu", 2, nodes)
