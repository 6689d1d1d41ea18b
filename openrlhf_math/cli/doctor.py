"""`openrlhf-math doctor`: one row a check of this machine, with the fix where something is wrong."""

import argparse
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from openrlhf_math.colocation.layout import cores, find_device
from openrlhf_math.doctor import machine, software
from openrlhf_math.doctor.machine import LEVELS, Finding
from openrlhf_math.errors import UserError

STYLES = {"ok": "green", "note": "yellow", "wrong": "bold red"}


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Check this machine: is what a run needs installed, in the right version, and is there room for "
        "it? Nothing is changed. The exit code is 0 if nothing is wrong, else 1.",
    )
    parser.add_argument("--model", type=Path, metavar="DIR", help="also check that this model's weights fit")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser


def run(args: argparse.Namespace) -> int:
    weights = 0
    if args.model is not None:
        weights = machine.weights_size(args.model)
        if not weights:
            raise UserError(f"--model {args.model} is not a directory with weights (*.safetensors, *.bin or *.gguf)")
    findings = list(examine(weights))
    if args.json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        print(json.dumps({"wrong": count(findings, "wrong"), "checks": rows}, indent=2))
    else:
        show(findings)
    return 1 if count(findings, "wrong") else 0


def examine(weights: int = 0) -> Iterator[Finding]:
    """All checks of this machine. weights: bytes that must fit into shared memory, 0 if not known."""
    installed = software.installed_versions()
    stack = software.find_stack(installed)
    nvidia = find_device() == "cuda"
    probe = machine.start_probe() if "torch" in installed else None

    yield software.python()
    yield software.versions(stack, software.pins(stack, installed) if stack else (), installed)
    if "openrlhf" in installed:
        yield software.patches()
    yield software.compiler(nvidia)
    yield software.ninja(nvidia)
    if stack == "cpu":
        yield software.libraries()

    temporary = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()))
    here = [
        machine.memory(*machine.host_memory(), machine.memory_limit()),
        machine.shared_memory(machine.disk_space(Path("/dev/shm"))[0], weights),
        machine.disk("disk", Path.cwd(), *machine.disk_space(Path.cwd())),
        machine.ray_disk(temporary, *machine.disk_space(temporary)),
        machine.descriptors(*machine.descriptor_limits()),
        machine.loopback(),
        machine.ports(),
    ]
    if probe is not None:
        torch = machine.read_probe(probe)
        yield machine.devices(torch, nvidia, machine.driver_version())
        if nvidia and torch.cuda:
            yield machine.flash_attention(torch)
            yield software.cuda_compiler(torch_cuda=torch.cuda)
        yield machine.cores(cores(), machine.cpu_quota(), torch.threads)
    yield from here


def count(findings: list[Finding], level: str) -> int:
    return sum(finding.level == level for finding in findings)


def show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for finding in findings:
        summary = Text(finding.found)
        if finding.fix:
            summary.append(f"\n-> {finding.fix}", style="bold" if finding.level == "wrong" else "dim")
        table.add_row(Text(finding.level, style=STYLES[finding.level]), finding.check, summary)
    console = Console()
    console.print(table)
    console.print(", ".join(f"{count(findings, level)} {level}" for level in LEVELS), highlight=False)
