"""`openrlhf-math status`: how runs are doing."""

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path

from openrlhf_math.errors import UserError

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
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run's directory")
    parser.add_argument("--json", action="store_true", help="a JSON array with an object a run")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=2.0,
        help="show it again every so many seconds (2) until none of the runs is at work",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    from openrlhf_math.status.status import statuses

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

    from openrlhf_math.status.words import page

    console = Console(highlight=False, soft_wrap=True)
    if args.watch is None:
        console.print(page(found))
        return
    with Live(page(found), console=console, auto_refresh=False) as live:
        while any(status.at_work for status in found):
            time.sleep(args.watch)
            found = statuses(args.runs)
            live.update(page(found), refresh=True)
