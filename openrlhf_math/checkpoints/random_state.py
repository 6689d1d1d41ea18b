"""The random numbers that a process would draw next, as plain data that a checkpoint can hold."""

import random

import numpy as np
import torch
from deepspeed.accelerator import get_accelerator


def random_state(device: bool = True) -> dict:
    """Of Python, NumPy, PyTorch and, where there is one, this process's device.

    device: whether it uses one at all; asking would otherwise claim it.
    """
    version, numbers, gauss = random.getstate()
    kind, keys, *position = np.random.get_state()
    state = {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, keys.tolist(), *position],
        "torch": torch.get_rng_state(),
    }
    return state | ({} if _on_cpu() or not device else {"device": get_accelerator().get_rng_state()})


def restore_random_state(state: dict) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *position = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *position))
    torch.set_rng_state(state["torch"].cpu())
    if "device" in state and not _on_cpu():
        get_accelerator().set_rng_state(state["device"].cpu())


def _on_cpu() -> bool:
    return get_accelerator().device_name() == "cpu"
