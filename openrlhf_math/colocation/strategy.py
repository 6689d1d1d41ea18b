"""OpenRLHF's DeepSpeed strategy, with nothing to compile on the CPU."""

from importlib import import_module

from deepspeed.accelerator import get_accelerator
from openrlhf.utils.deepspeed import DeepspeedStrategy

from openrlhf_math.colocation.compose import substituted


class MathStrategy(DeepspeedStrategy):
    def print(self, *message) -> None:
        """Only on request: OpenRLHF prints all arguments and the whole model."""
        if getattr(self.args.math, "verbose", True):
            super().print(*message)

    def setup_distributed(self, *args, **kwargs) -> None:
        # DeepSpeed would compile its own all-reduce for inference on the CPU, a minute the first time; training's
        # collectives are Gloo's.
        backend = import_module("deepspeed.comm.torch")  # as an attribute, deepspeed.comm.torch is PyTorch
        with substituted(backend, build_shm_op=lambda: None):
            super().setup_distributed(*args, **kwargs)

    def get_ds_train_config(self, *args, **kwargs) -> dict:
        config = super().get_ds_train_config(*args, **kwargs)
        if get_accelerator().device_name() == "cpu" and config.get("optimizer", {}).get("type") == "AdamW":
            # DeepSpeed would compile its own AdamW with g++ first, which takes longer than a short run.
            config["optimizer"]["params"]["torch_adam"] = True
        return config
