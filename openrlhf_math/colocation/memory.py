"""How much memory a process, or the device it works on, holds."""

import contextlib
import resource

import psutil


def used_bytes(device: str) -> int:
    """On "cuda" what is taken of this process's device, by anyone; on "cpu" this process's resident memory."""
    if device == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info()
        return total - free
    return psutil.Process().memory_info().rss


def take_peak_bytes(device: str) -> int:
    """The most since the last call: on "cuda" what PyTorch reserved here, on "cpu" this process's resident memory."""
    if device == "cuda":
        import torch

        peak = torch.cuda.max_memory_reserved()
        torch.cuda.reset_peak_memory_stats()
        return peak
    with open("/proc/self/status") as status:
        marks = [int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")]
    # A kernel that refuses to forget gives the peak since the process's start instead.
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")
    return marks[0] if marks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
