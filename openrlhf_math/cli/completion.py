"""`openrlhf-math completion`: a script that completes commands, flags and file names in a shell."""

import argparse
import importlib
import re
import sys
from pathlib import Path

from openrlhf_math.cli.parsing import each_parser
from openrlhf_math.errors import UserError
from openrlhf_math.patches.patch import PatchError

EPILOG = """once, for your user:
  bash  openrlhf-math completion bash > ~/.local/share/bash-completion/completions/openrlhf-math
  zsh   openrlhf-math completion zsh > ~/.zfunc/_openrlhf-math, and in ~/.zshrc before compinit: fpath+=~/.zfunc
  tcsh  openrlhf-math completion tcsh > ~/.openrlhf-math.tcsh, and in ~/.tcshrc: source ~/.openrlhf-math.tcsh
        (it offers the flags of all commands to each)

The script holds the flags of the version that wrote it, so that completion starts no Python. Write it again after an
update.
"""


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Print a script that completes commands, flags and file names in a shell.",
        epilog=EPILOG,
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), metavar="SHELL", help="bash, zsh or tcsh")
    return parser


def run(args: argparse.Namespace) -> None:
    try:
        import shtab
    except ImportError:
        raise UserError("it needs shtab, which is not installed; install it: pip install shtab") from None

    from openrlhf_math.cli import COMMANDS

    parsers = whole_parser()
    for parser in each_parser(parsers):
        name = parser.prog.removeprefix("openrlhf-math ")
        # zsh shows it next to the command's name.
        parser.description = COMMANDS.get(name) or " ".join((parser.description or "").split()).partition(". ")[0]
        for action in parser._actions:
            if takes_a_path(action):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parsers, args.shell))


def whole_parser() -> argparse.ArgumentParser:
    """All commands as one parser. A command whose packages are not installed has no flags."""
    from openrlhf_math.cli import COMMANDS

    root = argparse.ArgumentParser(prog="openrlhf-math")
    root.add_argument("--version", action="store_true", help="print the versions of the stack")
    commands = root.add_subparsers()
    for name, what in COMMANDS.items():
        command = importlib.import_module(f"openrlhf_math.cli.{name.replace('-', '_')}")
        try:
            parser = command.build_parser(f"openrlhf-math {name}")
        except (ModuleNotFoundError, PatchError) as error:
            print(f"openrlhf-math completion: {name} without its flags: {error}", file=sys.stderr)
            parser = argparse.ArgumentParser(prog=f"openrlhf-math {name}")
        commands._choices_actions.append(commands._ChoicesPseudoAction(name, (), what))
        commands._name_parser_map[name] = parser
    return root


# Flags of models, sets and runs, which may be folders and files, in addition to those whose type is a path.
PLACES = {*"model problems benchmark source against agents completions file files run runs output eval.dataset".split()}
PLACE = re.compile(r"([_-]dir|_path|\.path|remote_url)$")


def takes_a_path(action: argparse.Action) -> bool:
    """Whether file names are offered."""
    if action.nargs == 0 or action.choices:
        return False
    names = {option.lstrip("-") for option in action.option_strings} or {action.dest}
    return (
        action.type is Path
        or bool(names & PLACES)
        or any(map(PLACE.search, names))
        or action.metavar in ("FILE", "DIR", "RUN", "SET")
    )
