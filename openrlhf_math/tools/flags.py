"""The names that a command gives to the tool's flags, for errors: `grpo` has other names than the other commands."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ToolFlags:
    """tool, form, isolation: of the tool. model: of the model that calls it."""

    tool: str = "--tool"
    form: str = "--tool-form"
    isolation: str = "--tool-isolation"
    model: str = "--model"


PLAIN = ToolFlags()
