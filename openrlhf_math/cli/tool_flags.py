"""Flags of the tool that a model may call: the same in `solve`, `serve`, `eval` and `distill`."""

import argparse

from openrlhf_math.errors import UserError, in_flags
from openrlhf_math.tools.code_blocks import FORMS
from openrlhf_math.tools.isolation import WANTED
from openrlhf_math.tools.settings import ToolSettings
from openrlhf_math.tools.turns import BlockTurns, TemplateTurns

# By flag the field of `ToolSettings`.
FIELDS = {
    "tool_form": "form",
    "tool_calls": "calls",
    "tool_seconds": "seconds",
    "tool_memory": "memory_mb",
    "tool_isolation": "isolation",
}


def add_tool_flags(parser: argparse.ArgumentParser) -> None:
    default = ToolSettings()
    add = parser.add_argument_group("tool").add_argument
    add(
        "--tool", choices=("python",),
        help="let the model run Python: its code runs in a sandbox, and it is shown the output; see docs/tool.md",
    )  # fmt: skip
    add(
        "--tool-form", choices=FORMS,
        help=f"form of a call: a block ```python, or a <tool_call> of the chat template ({default.form})",
    )  # fmt: skip
    add("--tool-calls", type=int, metavar="N", help=f"calls of an attempt at most ({default.calls})")
    add(
        "--tool-seconds", type=float, metavar="S",
        help=f"CPU time of a call; by the clock four times as much ({default.seconds:g})",
    )  # fmt: skip
    add("--tool-memory", type=int, metavar="MIB", help=f"memory of an attempt's programs ({default.memory_mb})")
    add(
        "--tool-isolation", choices=WANTED,
        help=f"isolation of its programs; none: they have your rights ({default.isolation})",
    )  # fmt: skip


def tool_settings(args: argparse.Namespace) -> ToolSettings | None:
    """None without --tool. Raises UserError for values that cannot work."""
    given = {flag: getattr(args, flag) for flag in FIELDS if getattr(args, flag) is not None}
    if args.tool is None:
        if given:
            flag, value = next(iter(given.items()))
            raise UserError(f"--{flag.replace('_', '-')} {value}: add --tool python, or leave it out")
        return None
    with in_flags(**{field: f"--{flag.replace('_', '-')}" for flag, field in FIELDS.items()}):
        return ToolSettings(**{FIELDS[flag]: value for flag, value in given.items()})


def with_tool(instruction: str, tool: ToolSettings | None) -> str:
    """The instruction of a problem, and what the model must know of the tool."""
    if tool is None:
        return instruction
    more = (TemplateTurns if tool.form == "template" else BlockTurns).instruction
    return "\n".join(text for text in (instruction, more) if text)
