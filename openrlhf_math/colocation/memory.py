"""How much memory a process, or the device it works on, holds; and giving back to the system what was freed."""

import contextlib
import ctypes
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


class HeapTrimmer:
    """Gives memory that was freed back to the system, once the heap has grown by `growth` beyond its smallest.

    glibc keeps what is freed, and tensors whose sizes differ from step to step leave it in pieces that fit no other:
    the demo's policy had grown to 2.3 GiB after 80 steps, and has 1.4 to 1.9 with this. The next step has to fetch
    again what was given back, so it is not done at every one.
    """

    def __init__(self, growth: float = 1.25) -> None:
        self.growth = growth
        self.trimmed: float = 0  # resident bytes after it was trimmed last

    def __call__(self) -> bool:
        """Whether it trimmed. Another C library than glibc has nothing to trim."""
        if self.trimmed and used_bytes("cpu") <= self.growth * self.trimmed:
            return False
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        self.trimmed = used_bytes("cpu")
        return True
