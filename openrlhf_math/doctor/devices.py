"""NVIDIA devices, and whether the installed torch can use them."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_math.doctor.machine import Finding, gib, note, ok, wrong

# In a separate process: importing torch takes seconds, which other checks can use, and may crash.
PROBE = """
import json, torch
flash_attn = ""
if torch.version.cuda:
    try:
        import flash_attn as module
        flash_attn = module.__version__
    except ModuleNotFoundError:
        pass
    except Exception as error:
        flash_attn = f"{type(error).__name__}: {error}"
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
properties = [torch.cuda.get_device_properties(index) for index in range(count)]
print(json.dumps({
    "version": torch.__version__, "cuda": torch.version.cuda or "", "threads": torch.get_num_threads(),
    "capability": torch.backends.cpu.get_cpu_capability(),
    "devices": [[each.name, each.total_memory] for each in properties], "flash_attn": flash_attn,
}))
"""


@dataclass(frozen=True)
class Torch:
    """What the installed torch says of itself.

    error: why it could not be imported, else empty. cuda: the CUDA it was built for, empty for a CPU build.
    devices: name and bytes of each. flash_attn: its version, why it cannot be imported, or empty if it is
    not installed.
    """

    error: str = ""
    version: str = ""
    cuda: str = ""
    threads: int = 0
    capability: str = ""
    devices: list[tuple[str, int]] = field(default_factory=list)
    flash_attn: str = ""


def start_probe() -> subprocess.Popen:
    command = [sys.executable, "-c", PROBE]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_probe(process: subprocess.Popen, timeout: float = 60) -> Torch:
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Torch(error=f"no answer within {timeout:.0f} s")
    if process.returncode:
        last = errors.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        return Torch(error=last[0])
    return Torch(**json.loads(output.splitlines()[-1]))


def driver_version(path: Path = Path("/proc/driver/nvidia/version")) -> str:
    """Version of the loaded NVIDIA driver, empty if there is none."""
    match = re.search(r"Module\s.*?(\d+\.[\d.]+)", path.read_text()) if path.exists() else None
    return match[1] if match else ""


def devices(torch: Torch, nvidia: bool, driver: str) -> Finding:
    """nvidia: whether this process can see an NVIDIA device file, which is what our commands go by."""
    if torch.error:
        return wrong("devices", f"torch cannot be imported: {torch.error}", "Reinstall the stack: make clean setup.")
    if nvidia and not torch.cuda:
        return wrong(
            "devices", f"an NVIDIA device is here, but torch {torch.version} is a CPU build",
            "Install the CUDA stack: make clean setup STACK=gpu.",
        )  # fmt: skip
    if not nvidia and torch.cuda:
        return wrong(
            "devices", f"torch is built for CUDA {torch.cuda}, but no NVIDIA device is here",
            "Start the container with --gpus all, load the driver, or install the CPU stack: make clean setup.",
        )  # fmt: skip
    if nvidia and not torch.devices:
        return wrong(
            "devices", f"driver {driver or 'unknown'}: torch, built for CUDA {torch.cuda}, sees no device",
            f"Check CUDA_VISIBLE_DEVICES, and that nvidia-smi shows CUDA {torch.cuda} or newer.",
        )  # fmt: skip
    if not nvidia:
        return note(
            "devices", f"no NVIDIA device: everything runs on the CPU ({torch.capability})",
            "No action is needed for tiny models; train larger ones on GPUs.",
        )  # fmt: skip
    names = ", ".join(f"{name} ({gib(size)})" for name, size in torch.devices)
    return ok("devices", f"{names}; driver {driver or 'unknown'}, CUDA {torch.cuda}")


def flash_attention(torch: Torch) -> Finding:
    """An extra: PyTorch has its own FlashAttention, which training uses."""
    if not torch.flash_attn:
        return ok("flash-attn", "not installed, which only ring attention (--ds.ring_attn_size) needs: make flash-attn")
    if torch.flash_attn[:1].isdigit():
        return ok("flash-attn", torch.flash_attn)
    return note(
        "flash-attn", f"installed, but it cannot be imported: {torch.flash_attn}",
        "Remove it (pip uninstall flash-attn), or compile it against the installed torch: make flash-attn.",
    )  # fmt: skip
