"""The isolation of kernels: determined by starting one, not by checking versions."""

import functools
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from openrlhf_math.errors import UserError
from openrlhf_math.tools.kernel import CannotStart, Kernel, KernelLimits


@dataclass(frozen=True, slots=True)
class ToolFlags:
    """The names that a command gives to the tool's flags, for errors: `grpo` has other names than the other commands.

    tool, form, isolation: of the tool. model: of the model that calls it.
    """

    tool: str = "--tool"
    form: str = "--tool-form"
    isolation: str = "--tool-isolation"
    model: str = "--model"


PLAIN = ToolFlags()


KINDS = ("namespaces", "bubblewrap", "none")
WANTED = ("auto", *KINDS)
# What programs need; those that are symbolic links today are made again.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/etc/ld.so.cache", "/etc/localtime")
# Run in a kernel, it prints "yes" if nothing of the machine can be seen, written or reached.
PROBE = """
import os, socket, subprocess, sys
assert os.getpid() <= 9, "processes of the machine can be seen"
assert os.getuid() != 0, "it runs as root"
for path in ("/", "/usr", os.path.dirname(os.__file__)):
    assert not os.access(path, os.W_OK), f"{path} can be written to"
assert os.getcwd() == os.path.expanduser("~"), "the working directory is not its home"
assert os.listdir() == [], "the working directory is not empty"
assert os.access(".", os.W_OK), "the working directory cannot be written to"
for family in (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_VSOCK", 40)):
    try:
        socket.socket(family)
    except OSError:
        continue
    raise AssertionError("sockets can be made")
try:
    for _ in range(PROCESSES):
        os.fork() or os._exit(0 if __import__("time").sleep(60) else 0)
except BlockingIOError:
    print("yes")
else:
    raise AssertionError("processes are not limited")
"""


def find_isolation(wanted: str = "auto", flags: ToolFlags = PLAIN) -> str:
    """One of KINDS. wanted: of WANTED, "auto" for the first that keeps the code from the machine.

    Raises UserError, which names `flags`, with the reason if this machine does not have it.
    """
    if wanted == "none":
        return "none"
    kinds = _possible() if wanted == "auto" else [wanted]
    reasons = {kind: _reason(kind) for kind in kinds}
    for kind, reason in reasons.items():
        if not reason:
            return kind
    why = "; ".join(f"{kind}: {reason}" for kind, reason in reasons.items()) or "it is not Linux"
    raise UserError(
        f"{flags.tool} python: {socket.gethostname()} gives no isolation for the model's code ({why}); allow user "
        f"namespaces, install bubblewrap, or give {flags.isolation} none, with which the code may do all that you may"
    )


def new_kernel(limits: KernelLimits, isolation: str) -> Kernel:
    return Kernel(limits, isolation, tree() if isolation != "none" else [])


def _possible() -> list[str]:
    if not sys.platform.startswith("linux"):
        return []
    return ["namespaces", *(["bubblewrap"] if shutil.which("bwrap") and os.getuid() else [])]


def _reason(kind: str) -> str:
    """Why a kind of isolation cannot be had; "" if it can."""
    if not sys.platform.startswith("linux"):
        return "it is not Linux"
    if kind == "bubblewrap" and not shutil.which("bwrap"):
        return "bwrap is not installed"
    if kind == "bubblewrap" and not os.getuid():
        return "as root its process would still be root to the operating system"
    return _fault(kind)


@functools.lru_cache
def _fault(kind: str) -> str:
    """Why this kind does not work here; "" if it does."""
    limits = KernelLimits(seconds=10, wall_seconds=30, processes=8)
    try:
        with new_kernel(limits, kind) as kernel:
            result = kernel.run(f"PROCESSES = {limits.processes}\n{PROBE}")
    except CannotStart as error:
        return str(error)
    lines = result.output.splitlines() or [result.status]
    return "" if lines == ["yes"] else lines[-1]


@functools.lru_cache
def tree() -> list[tuple[str, str | None]]:
    """What a kernel can see of the machine: (path, None) read-only as it is, (path, text) a symbolic link.

    The system's programs and libraries, and this Python with its packages; no home directory, no configuration.
    Raises CannotStart if Python is installed so that all of a home directory would be seen.
    """
    prefixes = {Path(sys.prefix), Path(sys.base_prefix), Path(os.path.realpath(sys.executable)).parents[1]}
    prefixes.add(Path(__file__).parent / "sandbox")
    for prefix in prefixes:
        if prefix in (Path("/"), Path.home(), *Path.home().parents):
            raise CannotStart(f"Python's prefix is {prefix}, which the model's code must not see")
    shown, links = [], []
    for path in (*SYSTEM, *sorted(str(one) for one in prefixes)):
        if os.path.islink(path):
            links.append((path, os.readlink(path)))
        elif os.path.exists(path):
            shown.append(path)
    shown = [path for path in shown if not any(path.startswith(other + "/") for other in shown)]
    return [*((path, None) for path in sorted(set(shown))), *links]
