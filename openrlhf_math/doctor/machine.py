"""Cores, memory, shared memory, disk, file descriptors, ports and GPUs; and the result of a check."""

import json
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LEVELS = ("ok", "note", "wrong")


@dataclass(frozen=True)
class Finding:
    """One row.

    level: "ok", "note" (works, but limits something) or "wrong" (a command will fail).
    fix: what to do about it, in one sentence; empty where nothing need be done.
    """

    check: str
    level: str
    found: str
    fix: str = ""

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"level {self.level!r} is none of {', '.join(LEVELS)}")
        if (self.level == "ok") == bool(self.fix):
            raise ValueError(f"{self.check}: a fix goes with 'note' and 'wrong', and only with these")


def ok(check: str, found: str) -> Finding:
    return Finding(check, "ok", found)


def note(check: str, found: str, fix: str) -> Finding:
    return Finding(check, "note", found, fix)


def wrong(check: str, found: str, fix: str) -> Finding:
    return Finding(check, "wrong", found, fix)


def gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


MEMORY_NEEDED = 6 * 2**30  # the demo, measured: 5.4 GiB at its peak
SHARED_MEMORY_WANTED = 1 * 2**30  # below it Ray may keep its objects on disk
DISK_NEEDED = 2 * 2**30
DESCRIPTORS_WANTED = 4096  # below it Ray warns of connection errors
DESCRIPTORS_RAISED_TO = 65536  # Ray raises the soft limit to this where the hard limit allows
RAY_PORTS = {6379: "--port", 8265: "--dashboard-port"}
BYTES_A_PARAMETER = 2  # bf16


def cores(usable: int, quota: float | None, threads: int) -> Finding:
    """usable: cores this process may use. quota: CPUs the control group grants, None for no limit."""
    found = f"{usable} usable, torch takes {threads} threads"
    if quota is not None and quota < usable:
        return note(
            "cores", f"{found}, but the container's quota is {quota:g} CPUs",
            "Start the container with --cpuset-cpus instead of --cpus: threads beyond the quota wait for each other.",
        )  # fmt: skip
    if usable < 2:
        return note("cores", found, "Give it 2 cores or more: the trainer, vLLM and Ray share this one.")
    return ok("cores", found)


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPUs that the control group grants (v2 or v1), None for no limit."""
    v2, v1 = root / "cpu.max", root / "cpu"
    if v2.exists():
        quota, period = v2.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    if (v1 / "cpu.cfs_quota_us").exists():
        granted = int((v1 / "cpu.cfs_quota_us").read_text())
        return None if granted <= 0 else granted / int((v1 / "cpu.cfs_period_us").read_text())
    return None


def memory(total: int, available: int, limit: int | None) -> Finding:
    """limit: bytes that the control group grants, None for no limit."""
    found = f"{gib(available)} available of {gib(total)}"
    if limit is not None and limit < total:
        found += f", limited to {gib(limit)} by the container"
    if min(available, total if limit is None else limit) < MEMORY_NEEDED:
        return wrong(
            "memory", f"{found}; the demo needs {gib(MEMORY_NEEDED)}",
            "End other programs, or give the container or job more memory.",
        )  # fmt: skip
    return ok("memory", found)


def host_memory() -> tuple[int, int]:
    """Bytes in all, and available."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
    total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return total, available


def memory_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that the control group grants (v2 or v1), None for no limit."""
    for path in (root / "memory.max", root / "memory/memory.limit_in_bytes"):
        if path.exists():
            text = path.read_text().strip()
            return None if text == "max" else int(text)
    return None


def shared_memory(free: int, model: int = 0) -> Finding:
    """Weights pass from the trainer to vLLM through /dev/shm, and Ray keeps its objects there.

    model: bytes of the weights that must fit, 0 if not known.
    """
    found = f"{gib(free)} free in /dev/shm"
    if free < model:
        return wrong("shared memory", f"{found}, the model's weights are {gib(model)}", _more_shared_memory(model))
    found += f", for weights of up to {free / BYTES_A_PARAMETER / 1e9:.2g} billion bf16 parameters"
    if free < SHARED_MEMORY_WANTED:
        return note("shared memory", found, _more_shared_memory(SHARED_MEMORY_WANTED))
    return ok("shared memory", found)


def _more_shared_memory(needed: int) -> str:
    size = -(-needed // 2**30) + 1
    return f"Start the container with --shm-size {size}g, or: mount -o remount,size={size}g /dev/shm"


def weights_size(model: Path) -> int:
    """Bytes of the weight files in a model directory."""
    return sum(path.stat().st_size for pattern in ("*.safetensors", "*.bin", "*.gguf") for path in model.glob(pattern))


def disk(check: str, path: Path, free: int, total: int) -> Finding:
    found = f"{gib(free)} free of {gib(total)} at {path}"
    if free < DISK_NEEDED:
        return wrong(check, f"{found}; a run wants {gib(DISK_NEEDED)}", "Free some, or run on a larger disk.")
    return ok(check, found)


def ray_disk(path: Path, free: int, total: int) -> Finding:
    """Ray writes logs and spilled objects to its temporary directory, and refuses objects on a disk 95% full."""
    if free < 0.05 * total:
        return wrong(
            "ray disk", f"{path} is {1 - free / total:.0%} full, Ray stops storing objects at 95%",
            "Free some, or set RAY_TMPDIR to a larger disk.",
        )  # fmt: skip
    return disk("ray disk", path, free, total)


def disk_space(path: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(path)
    return usage.free, usage.total


def descriptors(soft: int, hard: int) -> Finding:
    """Ray opens a socket or two for every pair of processes."""
    effective = max(soft, min(hard, DESCRIPTORS_RAISED_TO))
    if effective < DESCRIPTORS_WANTED:
        return note(
            "open files", f"limit {effective}; many actors need more, Ray advises {DESCRIPTORS_WANTED} at the least",
            f"ulimit -n {DESCRIPTORS_RAISED_TO}, or start the container with --ulimit nofile={DESCRIPTORS_RAISED_TO}",
        )  # fmt: skip
    return ok("open files", f"limit {effective}" + (f" (Ray raises it from {soft})" if effective > soft else ""))


def descriptor_limits() -> tuple[int, int]:
    """The soft and the hard limit, a large number for none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (2**30 if limit == resource.RLIM_INFINITY else limit for limit in (soft, hard))
    return soft, hard


def loopback() -> Finding:
    """Ray's and PyTorch's processes talk over TCP, on one machine too."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 2):
            return ok("loopback", "127.0.0.1 accepts connections")
    except OSError as error:
        return wrong("loopback", f"127.0.0.1 accepts no connection: {error}", "ip link set lo up")


def ports(wanted: Mapping[int, str] = RAY_PORTS) -> Finding:
    """wanted: port -> the flag of `ray start` that chooses another. Our own local runs take any free port."""
    taken = [port for port in wanted if _is_taken(port)]
    if not taken:
        return ok("ports", f"{' and '.join(map(str, wanted))} are free for `ray start --head`")
    return note(
        "ports", "; ".join(f"{port} is taken by {_owner(port)}" for port in taken),
        "If that is a Ray cluster, use it: export RAY_ADDRESS=HOST:PORT. Otherwise start one with "
        + ", ".join(f"ray start --head {wanted[port]}=PORT" for port in taken) + ".",
    )  # fmt: skip


def _is_taken(port: int) -> bool:
    try:
        with socket.create_server(("", port)):
            return False
    except OSError:
        return True


def _owner(port: int) -> str:
    """The process that listens on `port`, as far as this user may know."""
    try:
        import psutil
    except ImportError:  # comes with the stack
        return "another process"
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "another user's process"


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
