"""What our side needs inside vLLM's worker processes. vLLM mixes this class into its worker."""

import os
import socket
import threading
import time

import openrlhf_math.patches
from openrlhf_math.colocation import cpu_sampling, memory
from openrlhf_math.colocation import shared_memory as _registers_its_backend  # noqa: F401  before the model loads

cpu_sampling.install()


class WorkerExtension:
    """Called by name, with `collective_rpc`."""

    def used_bytes(self) -> int:
        return memory.used_bytes(self.device.type)

    def take_peak_bytes(self) -> int:
        return memory.take_peak_bytes(self.device.type)

    def end_with(self, host: str, pid: int) -> None:
        """End this process when the process `pid` of its host is gone."""

        def watch() -> None:
            while os.path.exists(f"/proc/{pid}"):
                time.sleep(1)
            os._exit(1)

        if socket.gethostname() == host:  # a worker on another node is Ray's to end
            threading.Thread(target=watch, daemon=True).start()

    def patches_applied(self) -> dict[str, bool]:
        import openrlhf.utils.distributed_util  # noqa: F401  a target: whatever is imported from now on is patched

        return openrlhf_math.patches.applied()
