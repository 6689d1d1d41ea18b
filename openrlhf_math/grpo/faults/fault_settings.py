"""What a run bears before it ends: the settings of faults, from flags, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from openrlhf_math.errors import UserError

# Seconds that a phase may take. Long: a phase that ends on its own must not be cut off.
PHASE_SECONDS = MappingProxyType(
    {"start": 3600.0, "rollout": 7200.0, "train": 7200.0, "sync": 1800.0, "save": 3600.0, "evaluate": 14400.0}
)


@dataclass(frozen=True)
class FaultSettings:
    """max_bad_steps: skipped steps in a row that end the run. engine_restarts: how many in a run do not.

    phase_seconds: limit of each phase of PHASE_SECONDS.
    """

    max_bad_steps: int = 3
    engine_restarts: int = 3
    phase_seconds: Mapping[str, float] = field(default_factory=lambda: dict(PHASE_SECONDS))


def faults(ours: dict) -> FaultSettings:
    """ours: --math.*. Raises UserError for values that cannot work."""
    if ours["math.max_bad_steps"] < 1:
        raise UserError(f"--math.max_bad_steps {ours['math.max_bad_steps']}: give 1 or more; with 1 the first ends it")
    if ours["math.engine_restarts"] < 0:
        raise UserError(f"--math.engine_restarts {ours['math.engine_restarts']}: give 0 (never) or more")
    text = ours["math.phase_timeout"]
    limits = dict(PHASE_SECONDS) | (parse_limits("--math.phase_timeout", text) if text else {})
    return FaultSettings(ours["math.max_bad_steps"], ours["math.engine_restarts"], limits)


def parse_limits(flag: str, text: str) -> dict[str, float]:
    """Seconds by phase from `PHASE=SECONDS,PHASE=SECONDS,...`. Raises UserError naming `flag` for another text."""
    limits = {}
    for part in text.split(","):
        phase, _, value = (piece.strip() for piece in part.partition("="))
        if phase not in PHASE_SECONDS:
            raise UserError(f"{flag} {text}: '{part}' names no phase; they are {', '.join(PHASE_SECONDS)}")
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not seconds > 0:
            raise UserError(f"{flag} {text}: '{part}' is not PHASE=SECONDS, as in rollout=3600,train=1800")
        limits[phase] = seconds
    return limits
