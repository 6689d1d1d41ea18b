"""What becomes of a completion that the limit cut off: kept as it was graded, masked out of the loss, or wrong."""

TRUNCATED = {
    "keep": "rewarded as it is graded",
    "mask": "out of the policy loss, though its reward stays in its group's mean",
    "wrong": "reward 0 and counted as wrong, whatever stands in it",
}


def as_wrong(response: dict) -> dict:
    """A rollout as the executor gives it, with reward and accuracy 0 if it was cut off."""
    if not response.get("truncated"):
        return response
    logs = response.get("extra_logs") or {}
    lost = {name: 0.0 for name in ("accuracy",) if name in logs}
    return {**response, "reward": 0.0, "scores": 0.0, "extra_logs": {**logs, **lost}}


def mask_truncated(experiences: list) -> None:
    """Set advantages and returns, float32 [batch, actions], of completions that were cut off to 0, in place.

    The mean of a group is taken before, with them. DAPO's overlong filtering, https://arxiv.org/abs/2503.14476,
    section 3.4. A KL loss and an entropy bonus, where they are switched on, still see these completions.
    """
    for experience in experiences:
        kept = (experience.truncated.reshape(-1, 1) == 0).to(experience.advantages.dtype)
        experience.advantages = experience.advantages * kept
        experience.returns = experience.returns * kept
