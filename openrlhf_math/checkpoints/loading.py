"""Reading DeepSpeed's files without letting them run code."""

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

# All that DeepSpeed 0.19 keeps beside tensors and plain data: records of numbers.
DEEPSPEED = (DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address)


class PlainCheckpointEngine(TorchCheckpointEngine):
    """Reads tensors, plain data and DeepSpeed's own records, where DeepSpeed itself would unpickle anything."""

    def load(self, path: str, map_location=None):
        """Raises pickle.UnpicklingError for anything else."""
        return load_plain(path, map_location)


def load_plain(path, map_location=None):
    with torch.serialization.safe_globals(list(DEEPSPEED)):
        return torch.load(path, map_location=map_location, weights_only=True)
