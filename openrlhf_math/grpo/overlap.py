"""`--math.overlap`: engines generate the next batch while the policy trains on this one. What it needs of the flags."""

from openrlhf_math.errors import UserError

FLAG = "--math.overlap"
MOST = 1  # batches ahead
HELP = (
    "0: training and generation take turns; 1: while the policy trains on a batch, engines on their own devices "
    "(--no-train.colocate_all) generate the next one with the previous weights, and --math.rollout_correction is auto "
    "unless you give another; see docs/overlap.md (%(default)s)"
)
# OpenRLHF's own way to do both at once, and the flags' plain values.
ASYNCHRONOUS = {"train.async_enable": False, "train.partial_rollout_enable": False, "train.async_queue_size": 1}


def check_overlap(flags: dict, batches: int) -> None:
    """Raise UserError for flags with which training and generation cannot be at once.

    flags: by dotted name. batches: that are generated ahead.
    """
    for name, plain in ASYNCHRONOUS.items():
        if flags[name] != plain:
            raise UserError(
                f"--{name}: OpenRLHF's asynchronous trainer has no curriculum, exact resume or recovery and is not "
                f"used here; give {FLAG} 1 --no-train.colocate_all, which trains and generates at once"
            )
    if not batches:
        return
    if flags["train.colocate_all"]:
        raise UserError(
            f"{FLAG} {batches}: engines that share the policy's devices (--train.colocate_all) cannot generate while "
            "it trains; give --no-train.colocate_all, and with --vllm.num_engines how many they are"
        )
