"""The flash-attn package, an extra: only OpenRLHF's ring attention and its packing of padded batches need it."""

import importlib.util
from types import SimpleNamespace

from openrlhf_math.errors import UserError

PACKAGES = {"flash_attn": "flash-attn", "ring_flash_attn": "ring-flash-attn"}


def check_installed(args: SimpleNamespace) -> None:
    """Raise UserError if a run needs packages that are not installed. args: resolved settings of `grpo` or `sft`."""
    ring = args.ds.ring_attn_size
    if ring > 1:
        flag, modules = f"--ds.ring_attn_size {ring}", list(PACKAGES)
    elif args.ds.packing_samples:
        dynamic = getattr(args.train, "dynamic_batch_enable", False)  # OpenRLHF switches packing on with it
        flag, modules = "--train.dynamic_batch_enable" if dynamic else "--ds.packing_samples", ["flash_attn"]
    else:
        return
    missing = [PACKAGES[module] for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(
            f"{flag} needs {' and '.join(missing)}, not installed here: make flash-attn (on a machine with NVIDIA "
            "devices), or leave the flag out"
        )
