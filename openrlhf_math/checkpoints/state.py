"""The contents of a checkpoint: DeepSpeed's files, read without running code in them, and the random state."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

# All that DeepSpeed 0.19 keeps besides tensors and plain data: records of numbers.
DEEPSPEED = (DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address)
Device = str | torch.device | None


class PlainCheckpointEngine(TorchCheckpointEngine):
    """Reads tensors, plain data and DeepSpeed's own records, where DeepSpeed itself would unpickle anything."""

    def load(self, path: str, map_location: Device = None) -> Any:
        """Raises pickle.UnpicklingError for anything else."""
        return load_plain(path, map_location)


def load_plain(path: str | Path, map_location: Device = None) -> Any:
    with torch.serialization.safe_globals(list(DEEPSPEED)):
        return torch.load(path, map_location=map_location, weights_only=True)


def random_state(device: bool = True) -> dict:
    """Of Python, NumPy, PyTorch and, where there is one, this process's device.

    device: whether it uses one at all; asking would otherwise claim it.
    """
    version, numbers, gauss = random.getstate()
    numpy_state = np.random.get_state()
    assert isinstance(numpy_state, tuple)  # as without legacy=False
    kind, keys, *position = numpy_state
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
