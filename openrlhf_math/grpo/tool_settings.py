"""`--math.tool`: the settings of a tool that the model may call in its rollouts, from flags, checked."""

import math
from dataclasses import dataclass

from openrlhf_math.errors import UserError
from openrlhf_math.tools.isolation import find_isolation
from openrlhf_math.tools.kernel import KernelLimits

PYTHON = "python"
# Flags that say nothing without --math.tool, and their values where they are not given.
DEFAULTS = {
    "math.tool_form": "block",
    "math.tool_calls": 4,
    "math.tool_seconds": 5.0,
    "math.tool_gib": 1.0,
    "math.tool_output": 2048,
    "math.tool_kernels": 32,
    "math.tool_isolation": "auto",
}
MOST_CALLS = 1000


@dataclass(frozen=True)
class ToolSettings:
    """form: of `tools.code_blocks.FORMS`. calls: that a completion may run.

    seconds: CPU time of a call. gib: memory of a process. output: bytes of what a call prints, of more the beginning
    and the end are kept. kernels: processes at once for each vLLM engine. isolation: auto or none.
    """

    name: str
    form: str
    calls: int
    seconds: float
    gib: float
    output: int
    kernels: int
    isolation: str


def tool(flags: dict, ours: dict) -> ToolSettings | None:
    """flags: OpenRLHF's, ours: --math.*. Raises UserError for values that cannot work, and for what no tool works with.

    Returns None without --math.tool.
    """
    name = ours["math.tool"]
    given = {flag: ours[flag] for flag in DEFAULTS if ours[flag] is not None}
    if name is None:
        if given:
            flag, value = next(iter(given.items()))
            raise UserError(f"--{flag} {value}: add --math.tool {PYTHON}, or leave it out")
        return None
    values = DEFAULTS | given
    least = {"math.tool_calls": 1, "math.tool_seconds": 0.1, "math.tool_gib": 0.0625, "math.tool_output": 64,
             "math.tool_kernels": 1}  # fmt: skip
    for flag, low in least.items():
        if not low <= values[flag] < math.inf:
            raise UserError(f"--{flag} {values[flag]}: give {low:g} or more")
    if values["math.tool_calls"] > MOST_CALLS:
        raise UserError(f"--math.tool_calls {values['math.tool_calls']}: give {MOST_CALLS} or less")
    _check_others(flags)
    return ToolSettings(name, *values.values())


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
    if flags["train.async_enable"]:
        raise UserError("--train.async_enable: rollouts with --math.tool are for training and generation in turns")
    if flags["train.full_determinism_enable"]:
        raise UserError(
            "--train.full_determinism_enable: when a tool answers depends on the moment, and what else the engine then "
            "has in its batch; leave it or --math.tool out"
        )


def limits(settings: ToolSettings) -> KernelLimits:
    return KernelLimits(seconds=settings.seconds, memory_mb=round(settings.gib * 1024), output_chars=settings.output)


def isolation_of(settings: ToolSettings) -> str:
    """Of `tools.isolation.KINDS`. Raises UserError if this machine has none that keeps the model's code from it."""
    try:
        return find_isolation(settings.isolation)
    except UserError as error:
        words = str(error).replace("--tool-isolation", "--math.tool_isolation").replace("--tool ", "--math.tool ")
        raise UserError(words) from None
