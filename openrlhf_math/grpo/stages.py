"""Values that change with the step: `0:512,200:1024` is 512 from the start and 1024 from step 200 on."""

from openrlhf_math.errors import UserError

Stages = tuple[tuple[int, float], ...]  # (steps done when it begins, value), in order, the first from step 0


def parse_stages(flag: str, text: str, kind: type = int) -> Stages:
    """Stages from `STEP:VALUE,STEP:VALUE,...`; values are `kind` (int or float).

    Raises UserError naming `flag` if the text is no such list, the first step is not 0, or steps or values do not rise.
    """
    stages = []
    for part in text.split(","):
        step, _, value = part.partition(":")
        try:
            stages.append((int(step), kind(value)))
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


def value_at(stages: Stages, step: int) -> float:
    """The value after `step` steps are done."""
    return [value for begins, value in stages if begins <= step][-1]
