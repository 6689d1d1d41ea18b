"""Packages that are extras: flash-attn, which only OpenRLHF's ring attention and its packing need, and Liger's."""

import importlib.util
from types import SimpleNamespace

from openrlhf_math.errors import UserError

PACKAGES = {"flash_attn": "flash-attn", "ring_flash_attn": "ring-flash-attn"}
LIGER = "liger_kernel"


def check_installed(args: SimpleNamespace) -> None:
    """Raise UserError if a run needs packages that are not installed. args: resolved settings of `grpo` or `sft`."""
    if args.ds.use_liger_kernel and importlib.util.find_spec(LIGER) is None:
        raise UserError(
            "--ds.use_liger_kernel needs liger-kernel, not installed here: install it or leave the flag out"
        )
    ring = args.ds.ring_attn_size
    if ring > 1:
        flag, modules = f"--ds.ring_attn_size {ring}", list(PACKAGES)
    elif args.ds.packing_samples:
        dynamic = getattr(args.train, "dynamic_batch_enable", False)  # OpenRLHF switches packing on with it
        flag, modules = "--train.dynamic_batch_enable" if dynamic else "--ds.packing_samples", ["flash_attn"]
    elif args.ds.attn_implementation == "flash_attention_2":
        flag, modules = "--ds.attn_implementation flash_attention_2", ["flash_attn"]
    else:
        return
    missing = [PACKAGES[module] for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(
            f"{flag} needs {' and '.join(missing)}, not installed here: make flash-attn (on a machine with NVIDIA "
            "devices), or leave the flag out"
        )
