"""The policy loss of one gradient step a batch."""

import torch
from torch import nn


class OnPolicyLoss(nn.Module):
    """OpenRLHF's policy loss with the old log-probabilities taken from the same forward pass.

    With one gradient step a batch the policy that generated is the policy that learns, so the ratio is
    pi / stop_gradient(pi): 1 in value, d(log pi) in gradient. The loss of a group, the mean of -ratio * A over
    each completion's own tokens and then over the group, is then -mean(A) = 0 for group-normalised A, while
    its gradient is not. No pass for old log-probabilities is needed.

    It also keeps the mean absolute gap between the trainer's log-probabilities and those vLLM sampled with.
    """

    def __init__(self, policy_loss: nn.Module) -> None:
        super().__init__()
        self.policy_loss = policy_loss
        self.logprob_gap = torch.zeros(())

    def forward(self, log_probs, old_log_probs, advantages, action_mask, rollout_log_probs=None, **batch_info):
        """log_probs, advantages, action_mask, rollout_log_probs: [batch, actions]; old_log_probs is unused."""
        if rollout_log_probs is not None:
            self.logprob_gap = mean_gap(log_probs.detach(), rollout_log_probs, action_mask)
        return self.policy_loss(
            log_probs,
            log_probs.detach(),
            advantages,
            action_mask=action_mask,
            rollout_log_probs=rollout_log_probs,
            **batch_info,
        )


def mean_gap(log_probs: torch.Tensor, rollout_log_probs: torch.Tensor, action_mask: torch.Tensor) -> torch.Tensor:
    """Mean over action tokens of |log pi_trainer - log pi_rollout|, nats. All inputs [batch, actions]."""
    gap = (log_probs.float() - rollout_log_probs.float()).abs() * action_mask
    return gap.sum() / action_mask.sum().clamp(min=1)
