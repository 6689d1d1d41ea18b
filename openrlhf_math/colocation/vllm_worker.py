"""Our methods inside vLLM's worker processes: vLLM's worker class inherits from `WorkerExtension`."""

import multiprocessing
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import openrlhf_math.patches
from openrlhf_math.colocation import cpu_kernels, layout
from openrlhf_math.colocation import shared_memory as _registers_its_backend  # noqa: F401  before the model loads

if TYPE_CHECKING:
    import torch

cpu_kernels.install_rotary()
cpu_kernels.install_sampling()


def end_with(pid: int) -> None:
    """End this process when another of this machine is gone."""

    def watch() -> None:
        while os.path.exists(f"/proc/{pid}"):
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# vLLM imports this as it starts: an engine whose parent is killed before it is ready would stay, with its memory.
if (parent := multiprocessing.parent_process()) is not None and parent.pid is not None:
    end_with(parent.pid)


class WorkerExtension:
    """Called by name, with `collective_rpc`. vLLM makes its worker class inherit from it."""

    device: "torch.device"

    def used_bytes(self) -> int:
        return layout.used_bytes(self.device.type)

    def take_peak_bytes(self) -> int:
        return layout.take_peak_bytes(self.device.type)

    def end_with(self, host: str, pid: int) -> None:
        """End this process when the process `pid` of its host is gone."""
        if socket.gethostname() == host:  # a worker on another node is Ray's to end
            end_with(pid)

    def patches_applied(self) -> dict[str, bool]:
        import openrlhf.utils.distributed_util  # noqa: F401  a target: whatever is imported from now on is patched

        return openrlhf_math.patches.applied()
