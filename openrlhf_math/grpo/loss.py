"""The policy loss of one gradient step a batch."""

import torch
from openrlhf.models import aggregate_loss
from torch import nn

FEWEST = 1e-6  # of tokens or completions; far below one, also after division by the number of micro-batches


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


class LossTerms:
    """Takes the place of OpenRLHF's `aggregate_loss` where it averages a KL loss and an entropy bonus.

    Both are averaged as the policy loss is, over tokens (token_level) or by completion; OpenRLHF's always over tokens.
    means: of each term, its mean over the action tokens of the batch, for the metrics.
    """

    def __init__(self, token_level: bool) -> None:
        self.token_level = token_level
        self.means: list[torch.Tensor] = []

    def __call__(self, per_token: torch.Tensor, action_mask: torch.Tensor, **batch_info) -> torch.Tensor:
        """per_token, action_mask: [batch, actions]. Returns the term's share of the optimizer step, a scalar."""
        self.means.append(token_mean(per_token.detach(), action_mask))
        return aggregate_loss(per_token, action_mask, token_level_loss=self.token_level, **batch_info)


def token_mean(values: torch.Tensor, action_mask: torch.Tensor) -> torch.Tensor:
    """Mean over action tokens, 0 if there is none. Both inputs [batch, actions]."""
    return (values.float() * action_mask).sum() / action_mask.sum().clamp(min=1)


def never_zero(batch_info: dict) -> dict:
    """The denominators of an optimizer step, with something to divide by if no completion of it is in the loss."""
    denominators = {name: batch_info[name].clamp(min=FEWEST) for name in ("batch_num_tokens", "global_batch_size")}
    return batch_info | denominators
