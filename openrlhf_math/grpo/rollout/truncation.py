"""What becomes of a completion that the limit cut off: kept as it was graded, masked out of the loss, or wrong."""

from openrlhf_math.runs.rollouts import PART

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
