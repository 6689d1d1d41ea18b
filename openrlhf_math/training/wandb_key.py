"""The key of Weights & Biases goes to the environment variable where wandb looks for it, and into nothing that a run
writes or sends: OpenRLHF gives all settings to wandb, which stores them."""

import os
import sys
from importlib.util import find_spec

from openrlhf_math.errors import UserError

FLAG = "logger.wandb.key"
VARIABLE = "WANDB_API_KEY"
FROM_ENVIRONMENT = "env"  # the value of the flag that leaves the key out of the command line
HIDDEN = "hidden"
HELP = (
    f"log to Weights & Biases, too, with this key; {FROM_ENVIRONMENT} takes the one in ${VARIABLE} or of `wandb "
    "login`, and no one sees it in the list of processes"
)


def hide_wandb_key(flags: dict) -> None:
    """Leave only in `flags` that there is a key. Raises UserError if wandb is not installed, or has no key to go by."""
    key = flags[FLAG]
    if not key:
        return
    if find_spec("wandb") is None:
        raise UserError(
            f"--{FLAG}: wandb is not installed; pip install wandb, or leave the flag out: metrics.jsonl and "
            "TensorBoard's records are written in any case"
        )
    if key not in (FROM_ENVIRONMENT, HIDDEN):
        os.environ[VARIABLE] = key
        sys.argv[:] = [word.replace(key, FROM_ENVIRONMENT) for word in sys.argv]  # wandb stores the command line
    elif not _known_key():
        if os.environ.get("WANDB_MODE") != "offline":
            raise UserError(
                f"--{FLAG} {FROM_ENVIRONMENT}: there is no key; set ${VARIABLE}, run `wandb login`, or set "
                "WANDB_MODE=offline"
            )
        os.environ[VARIABLE] = HIDDEN  # or OpenRLHF would ask wandb to log in
    flags[FLAG] = HIDDEN


def _known_key() -> bool:
    if os.environ.get(VARIABLE):
        return True
    import wandb

    return bool(wandb.api.api_key)  # of `wandb login`, in ~/.netrc
