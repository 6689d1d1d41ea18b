"""`openrlhf-math status`: the state of runs, as a table or as JSON."""

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from openrlhf_math.errors import UserError
from openrlhf_math.report.status import TRAININGS, Status
from openrlhf_math.report.table import visible
from openrlhf_math.runs.process import FAILED, FINISHED, KILLED, RUNNING

EPILOG = """examples:
  openrlhf-math status runs/gsm8k
  openrlhf-math status runs/seed0 runs/seed1 --watch
  openrlhf-math status runs/gsm8k --json | jq '.[0].state'

A RUN is a directory that `grpo`, `sft`, `prm train`, `eval` or `distill` has written, or a whole demo. States:

  running            its process exists; a warning after ten steps' time without a step
  running elsewhere  it was started on another host, where its process cannot be checked from here
  finished           it completed
  stopped            ended by Ctrl-C or SIGTERM
  failed             ended with an error, which is shown
  killed             its process is gone without a message: kill -9, out of memory, a crash, a reboot
  unknown            an older run, or one without a record of its end

exit codes: 0 shown, whatever the state, 2 bad input
"""


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Show the state of runs: running or how they ended, progress, speed, reward and lengths at the "
        "beginning and now, the newest checkpoint, the last evaluation, the command that resumes it. Only reads files.",
        epilog=EPILOG,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run's directory")
    parser.add_argument("--json", action="store_true", help="a JSON array with an object a run")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=2.0,
        help="show it again every so many seconds (2) until none of the runs is running",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    from openrlhf_math.report.status import statuses

    if args.watch is not None and not 0 < args.watch < math.inf:
        raise UserError(f"--watch {args.watch}: give more than 0 seconds")
    if args.watch is not None and args.json:
        raise UserError("--json is printed once; leave --watch out")
    found = statuses(args.runs)
    if args.json:
        print(json.dumps([asdict(status) for status in found], indent=2))
        return

    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False, soft_wrap=True)
    if args.watch is None:
        console.print(page(found))
        return
    with Live(page(found), console=console, auto_refresh=False) as live:
        while any(status.at_work for status in found):
            time.sleep(args.watch)
            found = statuses(args.runs)
            live.update(page(found), refresh=True)


COLOURS = {RUNNING: "green", FINISHED: "blue", KILLED: "red", FAILED: "red"}


def page(statuses: list[Status]) -> RenderableType:
    parts: list[RenderableType] = []
    for status in statuses:
        parts += [*_parts(status), Text()]
    return Group(*parts[:-1])


def _parts(status: Status) -> list[RenderableType]:
    head = Text.assemble(f"  {status.kind}  ", (status.state, COLOURS.get(status.state, "yellow")))
    if progress := progress_line(status):
        head.append(f"  {progress}")
    parts: list[RenderableType] = [Text(visible(status.name), "bold"), head]
    if status.cause:
        parts.append(Text(f"  {visible(status.cause)}"))
    if status.silent:
        parts.append(Text(f"  no step for {duration(status.silent_seconds or 0.0)}: it may hang", "red"))
    if status.changes:
        parts.append(_table(status))
    if status.unreadable:
        parts.append(Text(f"  {status.unreadable} lines of metrics.jsonl cannot be read and are left out", "yellow"))
    if status.evaluation:
        figures = "  ".join(
            f"{visible(name)} {value:.4g}" for name, value in status.evaluation.items() if name != "step"
        )
        when = f"evaluation of step {status.evaluation['step']:.0f}" if "step" in status.evaluation else "results"
        parts.append(Text(f"  {when}: {figures}"))
    if status.checkpoint:
        parts.append(Text(f"  newest checkpoint: {status.checkpoint}"))
    if status.go_on:
        parts.append(Text(f"  resume with: {visible(status.go_on)}", overflow="fold"))
    return parts


def progress_line(status: Status) -> str:
    """How far, how fast, how long still."""
    if status.kind not in TRAININGS:
        return f"{status.step:,} records" if status.step else ""
    if not status.step:
        waited = f" for {duration(status.silent_seconds)}" if status.silent_seconds is not None else ""
        return f"starting{waited}" if status.at_work else "no step was done"
    parts = [f"step {status.step} of {status.steps}" if status.steps else f"step {status.step}"]
    if status.seconds_a_step is not None:
        parts.append(f"{status.seconds_a_step:.3g} s a step")
    if status.eta_seconds is not None:
        parts.append(f"{duration(status.eta_seconds)} left")
    if status.silent_seconds is not None:
        parts.append(f"last step {duration(status.silent_seconds)} ago")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """In two units at the most: "45 s", "3 min 20 s", "5 h 10 min", "2 d 3 h"."""
    seconds = max(0, round(seconds))
    for unit, size, less, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit}" + (f" {rest} {less}" if rest else "")
    return f"{seconds} s"


def _table(status: Status) -> Table:
    steps = status.window
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("  mean of", style="dim")
    table.add_column(f"first {steps} steps" if steps > 1 else "first step", justify="right")
    table.add_column(f"last {steps} steps" if steps > 1 else "last step", justify="right")
    for name, change in status.changes.items():
        table.add_row(f"  {name}", f"{change.first:.4g}", f"{change.last:.4g}")
    return table
