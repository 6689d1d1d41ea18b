"""The settings of runs, and where they differ."""

import json

from openrlhf_math.report.runs import Training
from openrlhf_math.report.table import Table

# They differ between any two runs and say nothing, or repeat what the run's name says.
NEVER_TOLD = (
    "ckpt.path", "ckpt.output_dir", "logger.tensorboard_dir", "logger.wandb.run_name", "math.run_dir",
    "math.started_at", "train.agent_func_path", "local_rank",
)  # fmt: skip
SECRETS = ("key", "api_key", "token", "password", "secret")
MISSING = "-"


def flat(settings: dict, prefix: str = "") -> dict[str, str]:
    """Dotted names and values as text, as flags have them. Secrets are left out, should a file hold any."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, dict):
            found |= flat(value, f"{dotted}.")
        elif dotted not in NEVER_TOLD and name not in SECRETS:
            found[dotted] = value if isinstance(value, str) else json.dumps(value)
    return found


def differences(runs: list[Training]) -> Table | None:
    """A row for each setting that not all runs have alike; None with fewer than two runs."""
    if len(runs) < 2:
        return None
    settings = [flat(run.settings) for run in runs]
    names = dict.fromkeys(name for each in settings for name in each)
    rows = [[name, *(each.get(name, MISSING) for each in settings)] for name in names]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    note = "" if rows else "All settings are alike."
    return Table("Settings that differ", ["setting", *(run.name for run in runs)], rows, note, prose=True)


def all_settings(run: Training) -> Table:
    rows = [list(row) for row in flat(run.settings).items()]
    return Table(f"Settings of {run.name}", ["setting", "value"], rows, prose=True)
