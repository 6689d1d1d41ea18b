"""Help that one can read: what a command needs, then its own flags by topic. `--help-all` has all of OpenRLHF's too."""

import argparse
from collections.abc import Sequence
from typing import Any

UPSTREAM = "OpenRLHF: "  # in front of the titles of its flags' groups


class HelpAll(argparse.Action):
    """Prints the help of every flag and ends the process, as `--help` does with the short one."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **more)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(argparse.ArgumentParser.format_help(parser), end="")
        parser.exit()


def shorten_help(parser: argparse.ArgumentParser, needed: Sequence[str], example: str) -> None:
    """Sort the flags of an extended parser of OpenRLHF's into groups, and let `--help` leave most of OpenRLHF's out.

    needed: names of the flags that come first, in this order. example: what follows the program's name in the usage.
    """
    parser.usage = f"%(prog)s {example}"
    parser.add_argument("--help-all", action=HelpAll, help="show every flag, OpenRLHF's too")
    first = parser.add_argument_group("what you need")
    common = parser._optionals  # where argparse puts flags without a group: OpenRLHF's, and --help
    by_name = {action.dest: action for action in reversed(parser._actions)}
    for name in needed:
        _move(parser, by_name[name], first)
    sections: dict[str, argparse._ArgumentGroup] = {}
    for action in list(common._group_actions):
        if not isinstance(action, argparse._HelpAction | HelpAll):
            section = action.dest.partition(".")[0] if "." in action.dest else "other"
            if section not in sections:
                sections[section] = parser.add_argument_group(UPSTREAM + section)
            _move(parser, action, sections[section])
    parser._action_groups.remove(first)
    parser._action_groups.insert(0, first)
    for action in parser._actions:
        if action.metavar is None and not action.choices and action.nargs != 0:
            action.metavar = action.dest.rpartition(".")[2].upper()
    vars(parser)["format_help"] = lambda: _short(parser)  # in place of the class's


def _short(parser: argparse.ArgumentParser) -> str:
    groups = parser._action_groups
    parser._action_groups = [group for group in groups if not (group.title or "").startswith(UPSTREAM)]
    try:
        return argparse.ArgumentParser.format_help(parser)
    finally:
        parser._action_groups = groups


def _move(parser: argparse.ArgumentParser, action: argparse.Action, to: argparse._ArgumentGroup) -> None:
    for group in parser._action_groups:
        if action in group._group_actions:
            group._group_actions.remove(action)
    to._group_actions.append(action)
