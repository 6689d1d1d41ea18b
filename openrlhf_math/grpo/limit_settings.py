"""The settings of the completion limit, from flags, checked."""

from dataclasses import dataclass

from openrlhf_math.errors import UserError
from openrlhf_math.grpo.stages import Stages, parse_stages


@dataclass(frozen=True)
class LimitSettings:
    """start: tokens of the first step, None for as many as the context holds. stages: limits by step.

    grow_at: the truncation rate (0 to 1) above which the limit grows, None for never: by the factor `grow_by`, to
    `grow_to` tokens at the most, when the mean over `grow_after` steps since it last grew is above.
    """

    start: int | None = None
    stages: Stages = ()
    grow_at: float | None = None
    grow_by: float = 1.5
    grow_to: int | None = None
    grow_after: int = 10

    @property
    def last(self) -> int | None:
        """The largest limit of the run: what the engines' context must hold beside the prompt."""
        if self.stages:
            return self.stages[-1][1]
        return self.start if self.grow_at is None else self.grow_to


def completion_limit(flags: dict, ours: dict) -> LimitSettings:
    """flags: OpenRLHF's, ours: --math.*. Raises UserError for values that cannot work."""
    text, start, grow_at = ours["math.length_stages"], flags["rollout.max_new_tokens"], ours["math.grow_at"]
    stages = parse_stages("--math.length_stages", text) if text else ()
    if stages and grow_at is not None:
        raise UserError("--math.length_stages and --math.grow_at both set the completion limit; leave one out")
    if stages and stages[0][1] < 1:
        raise UserError(f"--math.length_stages {text}: a completion needs at least 1 token")
    if stages and start not in (None, stages[-1][1]):
        raise UserError(
            f"--rollout.max_new_tokens {start}: --math.length_stages {text} sets the limit; leave it out, or give its "
            f"last, {stages[-1][1]}"
        )
    settings = LimitSettings(
        start, stages, grow_at, ours["math.grow_by"], ours["math.grow_to"], ours["math.grow_after"]
    )
    if grow_at is not None:
        _check_growth(settings)
    elif settings.grow_to is not None:
        raise UserError(f"--math.grow_to {settings.grow_to}: say when to grow with --math.grow_at, as in 0.2")
    buffer = flags["reward.overlong_buffer_len"]
    first = stages[0][1] if stages else start
    if buffer and first and buffer > first:
        raise UserError(f"--reward.overlong_buffer_len {buffer:g} is above the first limit, {first} tokens; lower it")
    last = settings.last
    if (stages or grow_at is not None) and last >= flags["data.max_len"]:
        flag = "--math.length_stages" if stages else "--math.grow_to"
        raise UserError(
            f"{flag}: {last} tokens and a prompt do not fit in --data.max_len {flags['data.max_len']}; raise it: the "
            "engines are sized by it"
        )
    if flags["train.async_enable"] and (stages or grow_at is not None or ours["math.truncated"] != "keep"):
        raise UserError(
            "--train.async_enable: --math.length_stages, --math.grow_at and --math.truncated are for training and "
            "generation in turns; leave it out"
        )
    if flags["critic.model_name_or_path"] and ours["math.truncated"] == "mask":
        raise UserError(
            "--math.truncated mask: OpenRLHF's loss of a critic cannot leave completions out; take keep or wrong, or "
            "another estimator than gae"
        )
    return settings


def _check_growth(settings: LimitSettings) -> None:
    if not 0 <= settings.grow_at < 1:
        raise UserError(
            f"--math.grow_at {settings.grow_at:g}: give a share of completions from 0 to below 1, as in 0.2"
        )
    if settings.start is None:
        raise UserError("--math.grow_at: say where the limit begins with --rollout.max_new_tokens")
    if settings.grow_to is None or settings.grow_to < settings.start:
        raise UserError(
            f"--math.grow_at: give --math.grow_to, the highest limit, at least --rollout.max_new_tokens "
            f"{settings.start}; it is {settings.grow_to}"
        )
    if not settings.grow_by > 1:
        raise UserError(f"--math.grow_by {settings.grow_by:g}: the limit grows by a factor above 1")
    if settings.grow_after < 1:
        raise UserError(f"--math.grow_after {settings.grow_after}: give 1 step or more")
