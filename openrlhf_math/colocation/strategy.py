"""OpenRLHF's DeepSpeed strategy, with an optimizer that needs no compiling on the CPU."""

from deepspeed.accelerator import get_accelerator
from openrlhf.utils.deepspeed import DeepspeedStrategy


class MathStrategy(DeepspeedStrategy):
    def print(self, *message) -> None:
        """Only on request: OpenRLHF prints all arguments and the whole model."""
        if getattr(self.args.math, "verbose", True):
            super().print(*message)

    def get_ds_train_config(self, *args, **kwargs) -> dict:
        config = super().get_ds_train_config(*args, **kwargs)
        if get_accelerator().device_name() == "cpu" and config.get("optimizer", {}).get("type") == "AdamW":
            # DeepSpeed would compile its own AdamW with g++ first, which takes longer than a short run.
            config["optimizer"]["params"]["torch_adam"] = True
        return config
