"""`--math.rollout_correction`: importance weights where the engine that generated differs from the trained policy.

The weight of a token is w = pi(o_t) / pi_rollout(o_t), where pi is the policy before the step. The presets are values
of OpenRLHF's flags `--algo.advantage.is_correction_*`. No torch here.
"""

from dataclasses import dataclass
from typing import Any

from openrlhf_math.errors import UserError

OFF, AUTO = "off", "auto"
LEVEL, MODE, GATING, THRESHOLD = (
    f"algo.advantage.is_correction_{name}" for name in ("level", "mode", "gating", "threshold")
)
# OpenRLHF's own defaults.
UPSTREAM: dict[str, Any] = {LEVEL: "off", MODE: "mask", GATING: "ratio", THRESHOLD: (0.5, 5.0)}


@dataclass(frozen=True, slots=True)
class Preset:
    """what: for the help text. Bounds are of the statistic of `level`."""

    what: str
    level: str
    mode: str
    threshold: tuple[float, float]

    def values(self) -> dict[str, Any]:
        return {LEVEL: self.level, MODE: self.mode, GATING: "ratio", THRESHOLD: self.threshold}


PRESETS = {
    "tis": Preset("weights of tokens, cut at 2", "token", "clip", (0.0, 2.0)),
    "mis": Preset("weights of tokens; tokens outside 0.5 to 5 are left out", "token", "mask", (0.5, 5.0)),
    "seq": Preset(
        "weights of tokens; completions whose geometric mean weight is outside 0.95 to 1.05 are left out",
        "seq",
        "mask",
        (0.95, 1.05),
    ),
}
AUTO_PRESET = "tis"
CHOICES = (OFF, *PRESETS, AUTO)
DEFAULT_ESS = 0.99
HELP = (
    "importance weights for what the engine generated, (policy / engine): "
    + "; ".join(f"{name}: {preset.what}" for name, preset in PRESETS.items())
    + f"; {AUTO}: {AUTO_PRESET}, where a batch has several optimizer steps or the batch before had an effective sample "
    "size below --math.correct_below_ess"
)


def settle_correction(flags: dict, name: str | None, below_ess: float | None) -> str:
    """Fill in OpenRLHF's flags of the correction that are None. flags: by dotted name, changed in place.

    name: of a preset, `off`, `auto` or None, which leaves OpenRLHF's flags as they are given. Returns the name.
    Raises UserError for flags that contradict each other.
    """
    if below_ess is not None and name != AUTO:
        raise UserError(
            f"--math.correct_below_ess {below_ess:g} is for --math.rollout_correction {AUTO}, this is {name or OFF}"
        )
    if name in (None, OFF):
        if name == OFF and flags[LEVEL] not in (None, "off"):
            raise UserError(
                f"--{LEVEL} {flags[LEVEL]} contradicts --math.rollout_correction off; leave one of them out"
            )
        values = UPSTREAM
    else:
        values = PRESETS[AUTO_PRESET if name == AUTO else name].values()
        for flag in (LEVEL, MODE, GATING):
            if flags[flag] not in (None, values[flag]):
                raise UserError(
                    f"--{flag} {flags[flag]} contradicts --math.rollout_correction {name}, whose value is "
                    f"{values[flag]}; leave one of the two out"
                )
    level = flags[LEVEL] or values[LEVEL]
    for flag in (MODE, GATING, THRESHOLD):
        if level == "off" and flags[flag] not in (None, list(UPSTREAM[THRESHOLD]), UPSTREAM[flag]):
            raise UserError(f"--{flag} is read only where rollouts are corrected; give --{LEVEL} token or seq, too")
        if flags[flag] is None:
            flags[flag] = list(values[flag]) if isinstance(values[flag], tuple) else values[flag]
    flags[LEVEL] = level
    _check_gate(flags)
    return name or OFF


def _check_gate(flags: dict) -> None:
    """What OpenRLHF's loss would refuse in the policy's workers, minutes later."""
    level, mode, gating, threshold = (flags[flag] for flag in (LEVEL, MODE, GATING, THRESHOLD))
    if len(threshold) > 2:
        raise UserError(f"--{THRESHOLD}: give a lower and an upper bound, or an upper bound alone")
    if level == "off":
        return
    if mode == "clip" and (level == "seq" or gating != "ratio"):
        raise UserError(f"--{MODE} clip: only weights of tokens can be clipped; give --{LEVEL} token, --{GATING} ratio")
    if gating != "ratio" and len(threshold) == 2 and threshold[0] > 0:
        raise UserError(f"--{GATING} {gating}: a divergence has an upper bound only; give --{THRESHOLD} one number")
