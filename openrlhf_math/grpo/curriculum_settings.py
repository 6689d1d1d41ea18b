"""The settings of a curriculum, from flags, checked."""

from dataclasses import dataclass

from openrlhf_math.errors import UserError
from openrlhf_math.grpo.problems.completion_limit import Stages, parse_stages
from openrlhf_math.training.flag_checks import has_reward_model

UNIFORM, STAGED = "uniform", "staged"


@dataclass(frozen=True)
class CurriculumSettings:
    """stages: the hardest difficulty by step. explore: share of draws that ignore the estimates, 0 to 1.

    learn: whether rollouts of this run change the pass rates. half_life: steps until an outcome counts half.
    difficulty_key, pass_rate_key: columns of the problem set, None if there is none.
    """

    name: str = UNIFORM
    difficulty_key: str | None = None
    pass_rate_key: str | None = None
    stages: Stages[float] = ()
    explore: float = 0.1
    learn: bool = True
    half_life: float = 20.0


def curriculum(flags: dict, ours: dict) -> CurriculumSettings:
    """flags: OpenRLHF's, ours: --math.*. Raises UserError for values that cannot work."""
    text = ours["math.curriculum_stages"]
    settings = CurriculumSettings(
        name=ours["math.curriculum"],
        difficulty_key=ours["math.difficulty_key"],
        pass_rate_key=ours["math.pass_rate_key"],
        stages=parse_stages("--math.curriculum_stages", text, float) if text else (),
        explore=ours["math.curriculum_explore"],
        learn=ours["math.learn_pass_rates"],
        half_life=ours["math.pass_rate_half_life"],
    )
    if not 0 <= settings.explore <= 1:
        raise UserError(f"--math.curriculum_explore {settings.explore:g}: give a share from 0 to 1")
    if not settings.half_life > 0:
        raise UserError(f"--math.pass_rate_half_life {settings.half_life:g}: give a number of steps above 0")
    _check_staged(settings)
    if settings.name == "window" and not (settings.learn or settings.pass_rate_key):
        raise UserError(
            "--math.curriculum window goes by pass rates: name their column with --math.pass_rate_key, or leave out "
            "--no-math.learn_pass_rates"
        )
    if settings.name not in (UNIFORM, STAGED) and settings.learn and has_reward_model(flags):
        raise UserError(
            f"--math.curriculum {settings.name}: --reward.model_name_or_path says of no completion whether it is "
            "correct, so no pass rates can be learned; give --no-math.learn_pass_rates and --math.pass_rate_key, or "
            "leave one out"
        )
    if settings.name != UNIFORM:
        _check_order_is_ours(settings.name, flags)
    return settings


def _check_staged(settings: CurriculumSettings) -> None:
    if settings.name != STAGED:
        if settings.stages:
            raise UserError(f"--math.curriculum_stages is for --math.curriculum staged, this is {settings.name}")
    elif not settings.stages:
        raise UserError("--math.curriculum staged: give the stages, as in --math.curriculum_stages 0:2,100:3,200:5")
    elif not (settings.difficulty_key or settings.pass_rate_key):
        raise UserError(
            "--math.curriculum staged: name the column of the difficulty with --math.difficulty_key, or that of the "
            "base model's pass rate with --math.pass_rate_key"
        )


def _check_order_is_ours(name: str, flags: dict) -> None:
    for flag, plain in (("data.prompt_probs", None), ("data.dataloader_num_workers", 0)):
        if flags[flag] != plain:
            raise UserError(
                f"--{flag} {flags[flag]}: --math.curriculum {name} chooses every problem itself, when it is its turn; "
                "leave one of the two out"
            )
