"""The policy loss of one gradient step a batch."""

import torch
from torch import nn


class OnPolicyLoss(nn.Module):
    """OpenRLHF's policy loss with the old log-probabilities taken from the same forward pass.

    With one gradient step a batch the policy that generated is the policy that learns, so the ratio is
    pi / stop_gradient(pi): 1 in value, d(log pi) in gradient. The loss of a group, the mean of -ratio * A over
    each completion's own tokens and then over the group, is then -mean(A) = 0 for group-normalised A, while
    its gradient is not. No pass for old log-probabilities is needed.

    It also keeps the log-probabilities of the last forward pass, float [batch, actions], for the engine check.
    """

    def __init__(self, policy_loss: nn.Module) -> None:
        super().__init__()
        self.policy_loss = policy_loss
        self.log_probs: torch.Tensor | None = None

    def forward(self, log_probs, old_log_probs, advantages, action_mask, rollout_log_probs=None, **batch_info):
        """log_probs, advantages, action_mask, rollout_log_probs: [batch, actions]; old_log_probs is unused."""
        self.log_probs = log_probs.detach()
        return self.policy_loss(
            log_probs,
            self.log_probs,
            advantages,
            action_mask=action_mask,
            rollout_log_probs=rollout_log_probs,
            **batch_info,
        )
