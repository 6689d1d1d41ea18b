"""Cores, memory, shared memory, disk, file descriptors and ports; and the result of a check."""

import resource
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
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


def host_memory(path: Path = Path("/proc/meminfo")) -> tuple[int, int]:
    """Bytes in all, and available."""
    fields = dict(line.split(":") for line in path.read_text().splitlines() if ":" in line)
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
