"""`openrlhf-math patches`: the series of import-time changes to OpenRLHF, each with its reason and its diff."""

import argparse
from typing import TYPE_CHECKING

from openrlhf_math.errors import UserError
from openrlhf_math.patches import SERIES, PatchError
from openrlhf_math.patches.hook import changed_lines, diff

if TYPE_CHECKING:
    from rich.console import Console


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="List the changes made to OpenRLHF as it is imported. Nothing on disk is modified.",
    )
    parser.add_argument("name", nargs="?", choices=[patch.name for patch in SERIES], help="only this patch")
    parser.add_argument("--diff", action="store_true", help="print each patch's effect as a unified diff")
    return parser


def run(args: argparse.Namespace) -> None:
    from rich.console import Console

    console = Console()
    for patch in SERIES:
        if args.name not in (None, patch.name):
            continue
        console.print(f"[bold]{patch.name}[/bold]  for openrlhf {', '.join(patch.versions)}")
        console.print(f"  {patch.why}", highlight=False)
        for module in patch.places:
            try:
                lines = changed_lines(patch, module)
            except PatchError as error:
                raise UserError(str(error)) from None
            console.print(f"  [green]ok[/green] {module}: lines {', '.join(map(str, lines))}", highlight=False)
            if args.diff:
                _print_diff(console, diff(patch, module))
        console.print()


def _print_diff(console: "Console", text: str) -> None:
    from rich.syntax import Syntax

    if console.is_terminal:
        console.print(Syntax(text, "diff", background_color="default"))
    else:  # as it is, so that it can be piped to a file or a pager
        print(text)
