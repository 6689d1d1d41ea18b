"""`--math.tool`: the tool that the model may call in its rollouts, from flags, checked."""

from dataclasses import dataclass

from openrlhf_math.data.prompts import INSTRUCTION
from openrlhf_math.errors import BadValue, UserError, in_flags
from openrlhf_math.tools.flags import ToolFlags
from openrlhf_math.tools.isolation import find_isolation
from openrlhf_math.tools.pool import MOST_KERNELS, places_for
from openrlhf_math.tools.settings import ToolSettings
from openrlhf_math.tools.turns import BlockTurns

PYTHON = "python"
FLAGS = ToolFlags("--math.tool", "--math.tool_form", "--math.tool_isolation", "--actor.model_name_or_path")


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
                raise BadValue(name, value, f"1 to {most}")

    def places(self, engines: int) -> int:
        """Interpreters at once for an engine. engines: of this node, which share its memory."""
        return self.kernels or max(1, places_for(self.memory_mb) // engines)


# By flag, the field of `RolloutTool`. They have no effect without --math.tool, so they are refused then.
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
    with in_flags(**{field: f"--{flag}" for flag, field in FIELDS.items()}):
        settings = RolloutTool(**{FIELDS[flag]: value for flag, value in given.items()})
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
    return find_isolation(settings.isolation, FLAGS)
