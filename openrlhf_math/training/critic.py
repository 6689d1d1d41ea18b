"""The critic's flags. OpenRLHF gives a critic to one estimator, `gae`, whether its model is named or not."""

from openrlhf_math.errors import UserError

HAS_CRITIC = "gae"
FLAG = f"--algo.advantage.estimator {HAS_CRITIC}"  # what asks for a critic
# Flags that nothing reads without one, and their plain values.
OF_A_CRITIC = {"critic.model_name_or_path": None, "critic.freezing_steps": -1}


def settle_critic(flags: dict) -> None:
    """Name the critic's model where OpenRLHF would choose it later. flags: by dotted name, changed in place.

    Raises UserError for flags of a critic where there is none.
    """
    if flags["algo.advantage.estimator"] != HAS_CRITIC:
        for name, plain in OF_A_CRITIC.items():
            if flags[name] not in (plain, None):
                raise UserError(f"--{name} {flags[name]}: only {FLAG} has a critic; leave the flag out")
        return
    if flags["critic.model_name_or_path"] is None:
        scored = flags["reward.model_name_or_path"] if not _is_graded(flags) else None
        flags["critic.model_name_or_path"] = scored.split(",")[0] if scored else flags["actor.model_name_or_path"]


def _is_graded(flags: dict) -> bool:
    """Whether rewards come from an agent or a server, and not from a model of this run."""
    return bool(flags["train.agent_func_path"] or flags["reward.remote_url"])


def check_frozen_steps(frozen: int, batches: int) -> None:
    """Raise UserError if the policy is never trained. frozen: `--critic.freezing_steps`. batches: of the run."""
    if frozen >= 0 and frozen + 1 >= batches:
        raise UserError(
            f"--critic.freezing_steps {frozen} trains the critic alone in the first {frozen + 1} steps, and the run "
            f"has {batches}; lower it"
        )
