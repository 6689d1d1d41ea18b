"""The optimizer steps of a training: how many its rows make, rows that fill none, and where the learning rate begins.

As OpenRLHF 0.11.2 counts them: `trainer/sft_trainer.py`, `utils/distributed_sampler.py`, and the schedules of
`transformers.get_scheduler`.
"""

from dataclasses import dataclass

from openrlhf_math.arguments import SFTArguments, SFTTrain
from openrlhf_math.errors import UserError

# Schedules that OpenRLHF can create. Of the others in Transformers, some need settings that it has no flag for, and
# some need a loss at each step.
FROM_ZERO = (
    "cosine_with_min_lr", "cosine", "cosine_with_restarts", "linear", "polynomial", "constant_with_warmup",
    "inverse_sqrt",
)  # fmt: skip
SCHEDULERS = (*FROM_ZERO, "cosine_warmup_with_min_lr", "constant")


@dataclass(frozen=True, slots=True)
class Steps:
    """count: optimizer steps of a run. unused: rows of all its passes that fill no step."""

    count: int
    unused: int


def steps_of(rows: int, ranks: int, train: SFTTrain) -> Steps:
    """rows: of a pass. ranks: processes with their own rows. train: the flags of that section.

    A pass leaves out what fills no micro-batch in every process, and a run what fills no step at its end.
    """
    micro_batches = rows // ranks // train.micro_batch_size * train.max_epochs
    a_step = train.batch_size // (train.micro_batch_size * ranks)
    count = micro_batches // a_step
    return Steps(count, rows * train.max_epochs - count * train.batch_size)


def trains_nothing(steps: int, scheduler: str, warm_up: float, prefix: str = "") -> str:
    """A sentence if the run's only step has the learning rate 0, with which a warm-up begins; else "".

    warm_up: the share of the steps. prefix: of the flags.
    """
    if steps != 1 or warm_up == 0 or scheduler not in FROM_ZERO:
        return ""
    return (
        f"the run has 1 optimizer step, and --{prefix}lr_warmup_ratio {warm_up:g} gives the first step the learning "
        f"rate 0, so the model stays as it is; give --{prefix}lr_warmup_ratio 0, or make more steps"
    )


def print_steps(rows: int, ranks: int, args: SFTArguments, what: str) -> None:
    """Print the steps of a fine-tuning and the rows that fill none. what: the rows are called.

    Raises UserError if no step would train.
    """
    train = args.train
    found = steps_of(rows, ranks, train)
    if why := trains_nothing(found.count, args.lr_scheduler, args.lr_warmup_ratio):
        raise UserError(why)
    passes = f" of {train.max_epochs} passes" if train.max_epochs > 1 else ""
    unused = (
        f"; {found.unused} of the {rows * train.max_epochs} {what}{passes} fill no step and are not used"
        if found.unused
        else ""
    )
    print(f"steps: {found.count} of {train.batch_size} {what}{unused}")
