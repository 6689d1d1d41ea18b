"""`--math.tool`: the tool that the model may call in its rollouts, from flags, checked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from openrlhf_math.data.prompts import INSTRUCTION
from openrlhf_math.errors import UserError
from openrlhf_math.tools.isolation import find_isolation
from openrlhf_math.tools.pool import MOST_KERNELS, places_for
from openrlhf_math.tools.settings import ToolSettings
from openrlhf_math.tools.turns import BlockTurns

T = TypeVar("T")

PYTHON = "python"
MODEL_FLAG = "--actor.model_name_or_path"


@dataclass(frozen=True, slots=True)
class RolloutTool(ToolSettings):
    """kernels: interpreters at once for each vLLM engine, one for each completion that has begun to call; None for as
    many as half of the node's memory has room for."""

    kernels: int | None = None

    def __post_init__(self) -> None:
        ToolSettings.__post_init__(self)
        for name, most in (("kernels", MOST_KERNELS), ("calls", 1000)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise ValueError(f"{name} is {value}, it must be 1 to {most}")

    def places(self, engines: int) -> int:
        """Interpreters at once for an engine. engines: of this node, which share its memory."""
        return self.kernels or max(1, places_for(self.memory_mb) // engines)


# By flag, the field of `RolloutTool`. They say nothing without --math.tool.
FIELDS = {
    "math.tool_form": "form",
    "math.tool_calls": "calls",
    "math.tool_seconds": "seconds",
    "math.tool_memory": "memory_mb",
    "math.tool_output": "output",
    "math.tool_kernels": "kernels",
    "math.tool_isolation": "isolation",
}


def tool(flags: dict, ours: dict) -> RolloutTool | None:
    """flags: OpenRLHF's, ours: --math.*. Raises UserError for values that cannot work, and for what no tool works with.

    Returns None without --math.tool.
    """
    given = {flag: ours[flag] for flag in FIELDS if ours[flag] is not None}
    if ours["math.tool"] is None:
        if given:
            flag, value = next(iter(given.items()))
            raise UserError(f"--{flag} {value}: add --math.tool {PYTHON}, or leave it out")
        return None
    try:
        settings = RolloutTool(**{FIELDS[flag]: value for flag, value in given.items()})
    except ValueError as error:
        field, _, rest = str(error).partition(" is ")
        flag = next((flag for flag, of in FIELDS.items() if of == field), field)
        raise UserError(f"--{flag} {rest.replace(', it must be', ': give')}") from None
    if settings.form == "template" and not flags["data.apply_chat_template"]:
        raise UserError(
            "--no-data.apply_chat_template: --math.tool_form template is written by the chat template; take block"
        )
    _check_others(flags)
    return settings


def instruction(given: str, settings: RolloutTool | None) -> str:
    """The instruction of a run. The usual one begins with how a block is written.

    A chat template says it itself, and an instruction of the user's own stays as it is.
    """
    says_it = settings is None or settings.form != "block" or given != INSTRUCTION
    return given if says_it else f"{BlockTurns.instruction}\n{given}"


def _check_others(flags: dict) -> None:
    """Raise UserError for what would be wrong in silence with tokens of a tool in a completion."""
    if flags["reward.remote_url"] or flags["reward.model_name_or_path"]:
        flag = "reward.remote_url" if flags["reward.remote_url"] else "reward.model_name_or_path"
        raise UserError(
            f"--{flag}: OpenRLHF's rollouts, which it needs, run no tool; leave one out, or give a reward "
            "of your own with --train.agent_func_path"
        )
    if flags["critic.model_name_or_path"] or flags["algo.advantage.estimator"] == "gae":
        raise UserError(
            "--math.tool: a critic's advantages (gae) would count the tool's tokens as steps of the model; take "
            "another --algo.advantage.estimator"
        )
    if flags["algo.advantage.estimator"] == "reinforce" and flags["algo.advantage.gamma"] != 1:
        raise UserError(
            f"--algo.advantage.gamma {flags['algo.advantage.gamma']:g}: with --math.tool it would discount by the "
            "tool's tokens, too; leave it out"
        )
    if flags["train.full_determinism_enable"]:
        raise UserError(
            "--train.full_determinism_enable: when a tool answers depends on the moment, and what else the engine then "
            "has in its batch; leave it or --math.tool out"
        )


def isolation_of(settings: RolloutTool) -> str:
    """Of `tools.isolation.KINDS`. Raises UserError if this machine has none that keeps the model's code from it."""
    return in_flags_of_grpo(find_isolation, settings.isolation)


def in_flags_of_grpo(function: Callable[..., T], *args: object) -> T:
    """What the function returns. A UserError of it names the flags of this command."""
    try:
        return function(*args)
    except UserError as error:
        words = str(error).replace("--tool-", "--math.tool_").replace("--tool ", "--math.tool ")
        raise UserError(words.replace("--model ", f"{MODEL_FLAG} ")) from None
