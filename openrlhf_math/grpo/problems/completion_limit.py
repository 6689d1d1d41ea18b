"""How many tokens a completion may have: fixed, in stages by step, or growing where too many are cut off.

A completion that the limit cut off is kept as it was graded, masked out of the loss, or wrong.
"""

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from openrlhf_math.errors import UserError
from openrlhf_math.runs.rollouts import PART
from openrlhf_math.training.flag_checks import has_reward_model

Number = TypeVar("Number", int, float)
Stages: TypeAlias = tuple[tuple[int, Number], ...]  # (steps done when it begins, value), in order, the first from 0


def parse_stages(flag: str, text: str, kind: type[Number]) -> Stages[Number]:
    """Stages from `STEP:VALUE,STEP:VALUE,...`; values are `kind` (int or float).

    Raises UserError naming `flag` for another text, a first step other than 0, or steps or values that do not rise.
    """
    stages = []
    for part in text.split(","):
        begins, _, number = part.partition(":")
        try:
            stages.append((int(begins), kind(number)))
        except ValueError:
            raise UserError(f"{flag} {text}: '{part}' is not STEP:VALUE, as in 0:512,200:1024") from None
    if stages[0][0] != 0:
        raise UserError(f"{flag} {text}: the first stage begins at step {stages[0][0]}, it must begin at step 0")
    for (step, value), (next_step, next_value) in zip(stages, stages[1:], strict=False):
        if next_step <= step or not next_value > value:
            raise UserError(
                f"{flag} {text}: {next_step}:{next_value:g} after {step}:{value:g}; steps and values must both rise"
            )
    return tuple(stages)


def value_at(stages: Stages[Number], step: int) -> Number:
    """The value after `step` steps are done."""
    return [value for begins, value in stages if begins <= step][-1]


@dataclass(frozen=True)
class LimitSettings:
    """start: tokens of the first step, None for as many as the context holds. stages: limits by step.

    grow_at: the truncation rate (0 to 1) above which the limit grows, None for never: by the factor `grow_by`, to
    `grow_to` tokens at the most, when the mean over `grow_after` steps since it last grew is above.
    """

    start: int | None = None
    stages: Stages[int] = ()
    grow_at: float | None = None
    grow_by: float = 1.5
    grow_to: int | None = None
    grow_after: int = 10

    @property
    def last(self) -> int | None:
        """The largest limit of the run: what the engines' context must hold in addition to the prompt."""
        if self.stages:
            return self.stages[-1][1]
        return self.start if self.grow_at is None else self.grow_to


def completion_limit(flags: dict, ours: dict) -> LimitSettings:
    """flags: OpenRLHF's, ours: --math.*. Raises UserError for values that cannot work."""
    text, start, grow_at = ours["math.length_stages"], flags["rollout.max_new_tokens"], ours["math.grow_at"]
    stages = parse_stages("--math.length_stages", text, int) if text else ()
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
        _check_growth(settings, grow_at)
    elif settings.grow_to is not None:
        raise UserError(f"--math.grow_to {settings.grow_to}: say when to grow with --math.grow_at, as in 0.2")
    else:
        for name, plain in (("grow_by", LimitSettings.grow_by), ("grow_after", LimitSettings.grow_after)):
            if (value := getattr(settings, name)) != plain:
                raise UserError(f"--math.{name} {value}: say when to grow with --math.grow_at, as in 0.2")
    buffer = flags["reward.overlong_buffer_len"]
    first = stages[0][1] if stages else start
    if buffer and first and buffer > first:
        raise UserError(f"--reward.overlong_buffer_len {buffer:g} is above the first limit, {first} tokens; lower it")
    last = settings.last
    if (stages or grow_at is not None) and last is not None and last >= flags["data.max_len"]:
        flag = "--math.length_stages" if stages else "--math.grow_to"
        raise UserError(
            f"{flag}: {last} tokens and a prompt do not fit in --data.max_len {flags['data.max_len']}; raise it: the "
            "engines are sized by it"
        )
    if ours["math.truncated"] == "wrong" and has_reward_model(flags):
        raise UserError(
            "--math.truncated wrong: the rewards of --reward.model_name_or_path are not known when a completion ends; "
            "take keep or mask"
        )
    if flags["critic.model_name_or_path"] and ours["math.truncated"] == "mask":
        raise UserError(
            "--math.truncated mask: OpenRLHF's loss of a critic cannot leave completions out; take keep or wrong, or "
            "another estimator than gae"
        )
    return settings


def _check_growth(settings: LimitSettings, grow_at: float) -> None:
    if not 0 <= grow_at < 1:
        raise UserError(f"--math.grow_at {grow_at:g}: give a share of completions from 0 to below 1, as in 0.2")
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


class CompletionLimit:
    """The limit of the step that comes. `observe` after every step; the state belongs in the checkpoint."""

    def __init__(self, settings: LimitSettings) -> None:
        self.settings = settings
        self.tokens: int | None = value_at(settings.stages, 0) if settings.stages else settings.start
        self._rates: deque[float] = deque(maxlen=settings.grow_after)

    def observe(self, steps_done: int, truncation_rate: float) -> None:
        """truncation_rate: share of the last step's completions that were cut off."""
        settings = self.settings
        if settings.stages:
            self.tokens = value_at(settings.stages, steps_done)
        elif settings.grow_at is not None:
            assert self.tokens is not None and settings.grow_to is not None  # as the flags were checked
            self._rates.append(truncation_rate)
            full = len(self._rates) == settings.grow_after
            if full and sum(self._rates) / len(self._rates) > settings.grow_at and self.tokens < settings.grow_to:
                self.tokens = min(max(int(self.tokens * settings.grow_by), self.tokens + 1), settings.grow_to)
                self._rates.clear()

    def state_dict(self) -> dict:
        return {"tokens": self.tokens, "rates": list(self._rates)}

    def restore(self, steps_done: int, state: dict | None) -> None:
        """Resume from a checkpoint after `steps_done` steps. Flags that changed since then apply.

        state: of `state_dict`; None from a checkpoint that has none.
        """
        if self.settings.stages:
            self.tokens = value_at(self.settings.stages, steps_done)
        elif self.settings.grow_at is not None and state:
            assert self.tokens is not None and self.settings.grow_to is not None  # as the flags were checked
            self.tokens = min(max(state["tokens"] or 0, self.tokens), self.settings.grow_to)
            self._rates.extend(state["rates"])


TRUNCATED = {
    "keep": "rewarded as it is graded",
    "mask": "left out of the loss and of its denominators, though its reward stays in its group's mean",
    "wrong": "reward 0 and counted as wrong, whatever is in it",
}


def as_wrong(response: dict) -> dict:
    """A rollout as the executor gives it, with reward and accuracy 0 if it was cut off."""
    if not response.get("truncated"):
        return response
    logs = response.get("extra_logs") or {}
    lost = {name: 0.0 for name in logs if name == "accuracy" or name.startswith(PART)}
    grade = response.get("grade")
    regraded = {"grade": {**grade, "outcome": "wrong", "reason": "cut off (--math.truncated wrong)"}} if grade else {}
    return {**response, "reward": 0.0, "scores": 0.0, "extra_logs": {**logs, **lost}} | regraded


def mask_truncated(experiences: list) -> None:
    """Take completions that were cut off out of the loss, in place: no action token of theirs is left.

    action_mask, advantages, returns: [batch, actions]. All terms of the loss and all their denominators go by
    the action mask, so loss and gradient are those of a batch without these completions. The mean of a group is taken
    before, with them. DAPO's overlong filtering, https://arxiv.org/abs/2503.14476, section 3.4.
    """
    for experience in experiences:
        kept = experience.truncated.reshape(-1, 1) == 0
        for name in ("action_mask", "advantages", "returns"):
            tensor = getattr(experience, name)
            setattr(experience, name, tensor * kept.to(tensor.dtype))
