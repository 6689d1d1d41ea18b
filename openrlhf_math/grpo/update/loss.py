"""The loss of an optimizer step: a policy loss by its name, its correction of rollouts, and its other terms."""

from typing import Any, TypeAlias

import torch
from jaxtyping import Int64, Shaped
from openrlhf.models import PolicyLoss, aggregate_loss
from torch import nn

from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.losses import FLAG, LossFunction, LossInputs, PerToken, Scalar, find_policy_loss
from openrlhf_math.grpo.objective import CONSTANT_LENGTH
from openrlhf_math.grpo.update.rollout_correction import OFF

Tensor = torch.Tensor
Mask: TypeAlias = Shaped[Tensor, "completions actions"]
# As OpenRLHF's policy loss: the loss; the share of tokens outside the clip; the mean of log pi_old - log pi; and where
# rollouts are corrected, the mean of log pi_rollout - log pi and the share of tokens clipped or left out.
PolicyLossOutput: TypeAlias = tuple[Scalar, Scalar, Scalar, Scalar | None, Scalar | None]

FEWEST = 1e-6  # of tokens or completions; far below one, also after division by the number of micro-batches


class OnPolicyLoss(nn.Module):
    """OpenRLHF's policy loss with the old log-probabilities taken from the same forward pass.

    With one gradient step a batch the policy that generated is the policy that learns, so the ratio is
    pi / stop_gradient(pi): 1 in value, d(log pi) in gradient. The loss of a group, the mean of -ratio * A over
    each completion's own tokens and then over the group, is then -mean(A) = 0 for group-normalised A, while
    its gradient is not. No pass for old log-probabilities is needed.

    It also keeps the log-probabilities of the last forward pass, for the engine check.
    """

    def __init__(self, policy_loss: nn.Module) -> None:
        super().__init__()
        self.policy_loss = policy_loss
        self.log_probs: PerToken | None = None

    def forward(
        self,
        log_probs: PerToken,
        old_log_probs: PerToken | None,
        advantages: PerToken,
        action_mask: Mask,
        rollout_log_probs: PerToken | None = None,
        **batch_info: Any,
    ) -> PolicyLossOutput:
        """old_log_probs is unused."""
        self.log_probs = log_probs.detach()
        return self.policy_loss(
            log_probs,
            self.log_probs,
            advantages,
            action_mask=action_mask,
            rollout_log_probs=rollout_log_probs,
            **batch_info,
        )


class TaughtLoss(nn.Module):
    """A policy loss whose advantages have the teacher's share: A_t + coef (log pi_T(o_t) - log pi_old(o_t)).

    pi_old is the policy before the batch, so at its first step the gradient is that of the reverse KL at each token.
    log_probs: of the teacher; set before each call. reverse_kl: of the last call, the mean of
    log pi_old - log pi_T over its action tokens.
    """

    def __init__(self, policy_loss: nn.Module, coef: float) -> None:
        super().__init__()
        self.policy_loss, self.coef = policy_loss, coef
        self.log_probs: PerToken | None = None
        self.reverse_kl: Scalar | None = None

    def forward(
        self, log_probs: PerToken, old_log_probs: PerToken, advantages: PerToken, action_mask: Mask, **others: Any
    ) -> PolicyLossOutput:
        """As the policy loss."""
        assert self.log_probs is not None
        gap = torch.where(action_mask.bool(), self.log_probs - old_log_probs.detach(), 0.0)
        self.reverse_kl = token_mean(-gap, action_mask)
        return self.policy_loss(
            log_probs, old_log_probs, advantages + self.coef * gap, action_mask=action_mask, **others
        )


class LossTerms:
    """Takes the place of OpenRLHF's `aggregate_loss` where it averages a KL loss and an entropy bonus.

    Both are averaged as the policy loss is, over tokens (token_level) or by completion; OpenRLHF's always over tokens.
    means: of each term, its mean over the action tokens of the batch, for the metrics.
    """

    def __init__(self, token_level: bool) -> None:
        self.token_level = token_level
        self.means: list[Scalar] = []

    def __call__(self, per_token: PerToken, action_mask: Mask, **batch_info: Any) -> Scalar:
        """The term's share of the optimizer step."""
        self.means.append(token_mean(per_token.detach(), action_mask))
        return aggregate_loss(per_token, action_mask, token_level_loss=self.token_level, **batch_info)


def token_mean(values: Shaped[Tensor, "completions actions"], action_mask: Mask) -> Scalar:
    """Mean over action tokens, 0 if there is none."""
    return (values.float() * action_mask).sum() / action_mask.sum().clamp(min=1)


def never_zero(batch_info: dict) -> dict:
    """The denominators of an optimizer step, with something to divide by if no completion of it is in the loss."""
    denominators = {name: batch_info[name].clamp(min=FEWEST) for name in ("batch_num_tokens", "global_batch_size")}
    return batch_info | denominators


def policy_loss(args: GRPOArguments, **arguments: Any) -> PolicyLoss:
    """The loss of a run's settings. arguments: what OpenRLHF gives its `PolicyLoss`."""
    name, corrects = args.actor.policy_loss_type, args.math.objective.rollout_correction != OFF
    if name == "gspo" and corrects:
        loss = WeightedPolicyLoss(**arguments)
    elif function := find_policy_loss(name):
        loss = PluggedLoss(function, args.math.objective.sapo_tau, **arguments)
    else:
        loss = PolicyLoss(**arguments)
    if args.actor.loss_agg_mode == CONSTANT_LENGTH:
        loss.token_level_loss = True  # over a number of tokens that `training_step` gives
    return loss


class WeightedPolicyLoss(PolicyLoss):
    """OpenRLHF's loss with the correction's weights on the advantages.

    For `gspo`, where OpenRLHF's own correction takes the ratio to the engine instead. The loss of a token is
    proportional to its advantage, so a weight, which is never below 0, may be put there.
    """

    is_correction_level: str

    def forward(
        self,
        log_probs: PerToken,
        old_log_probs: PerToken,
        advantages: PerToken,
        action_mask: Mask,
        rollout_log_probs: PerToken | None = None,
        **batch_info: Any,
    ) -> PolicyLossOutput:
        weights, divergence, left_out = correction(self, old_log_probs, rollout_log_probs, action_mask)
        level, self.is_correction_level = self.is_correction_level, OFF
        try:
            loss, clipped, kl, _, _ = super().forward(
                log_probs, old_log_probs, advantages * weights, action_mask=action_mask, **batch_info
            )
        finally:
            self.is_correction_level = level
        return loss, clipped, kl, divergence, left_out


class PluggedLoss(PolicyLoss):
    """A function of this module or a user's in the place of OpenRLHF's formula. group_ids: set before each call."""

    def __init__(self, function: LossFunction, sapo_tau: tuple[float, float], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.function, self.sapo_tau = function, sapo_tau
        self.group_ids: Int64[Tensor, " completions"] | None = None

    def forward(
        self,
        log_probs: PerToken,
        old_log_probs: PerToken,
        advantages: PerToken,
        action_mask: Mask,
        rollout_log_probs: PerToken | None = None,
        dp_size: int = 1,
        *,
        batch_num_tokens: Scalar,
        global_batch_size: Scalar,
    ) -> PolicyLossOutput:
        assert self.group_ids is not None
        mask = action_mask.bool()
        inputs = LossInputs(
            log_probs=log_probs, old_log_probs=old_log_probs.detach(), rollout_log_probs=rollout_log_probs,
            advantages=advantages, action_mask=mask, group_ids=self.group_ids, clip_low=self.clip_eps_low,
            clip_high=self.clip_eps_high, sapo_tau=self.sapo_tau, batch_num_tokens=batch_num_tokens,
            global_batch_size=global_batch_size,
        )  # fmt: skip
        losses = self.function(inputs)
        if losses.shape != mask.shape:
            raise RuntimeError(
                f"{FLAG}: the loss gave shape {tuple(losses.shape)} for completions and tokens of {tuple(mask.shape)}"
            )
        weights, divergence, left_out = correction(self, old_log_probs, rollout_log_probs, action_mask)
        loss = aggregate_loss(
            torch.where(mask, losses * weights, 0.0), action_mask, token_level_loss=self.token_level_loss,
            dp_size=dp_size, batch_num_tokens=batch_num_tokens, global_batch_size=global_batch_size,
        )  # fmt: skip
        ratio = inputs.ratio().detach()
        outside = (ratio < 1 - self.clip_eps_low) | (ratio > 1 + self.clip_eps_high)
        kl = token_mean((old_log_probs - log_probs).detach(), action_mask)
        return loss, token_mean(outside, action_mask), kl, divergence, left_out


def correction(
    loss: PolicyLoss, old_log_probs: PerToken, rollout_log_probs: PerToken | None, action_mask: Mask
) -> tuple[PerToken | float, Scalar | None, Scalar | None]:
    """Of the `is_correction_*` settings of a loss: the weight of every token; the mean of log pi_rollout - log pi; the
    share of tokens that are clipped or left out. 1, None and None where nothing is corrected.

    w_t = pi(o_t) / pi_rollout(o_t). A gate looks at a statistic of a
    token: w_t, or how far the two probabilities p = pi_rollout(o_t) and q = pi(o_t) are apart; at level `seq` at its
    geometric mean (of w) or mean (of a divergence) over the completion. `clip` gives the statistic within the bounds,
    `mask` w_t where the statistic is within the bounds and 0 elsewhere. The meaning is that of OpenRLHF's own loss
    `ppo`, which has this formula within its own.
    """
    if loss.is_correction_level == OFF:
        return 1.0, None, None
    assert rollout_log_probs is not None  # or `training_step` has refused it
    log_ratio = (old_log_probs - rollout_log_probs).detach() * action_mask
    weights = log_ratio.exp()
    statistic = gate(loss, old_log_probs.detach(), rollout_log_probs, log_ratio)
    if loss.is_correction_level == "seq":
        means = (statistic * action_mask).sum(-1, keepdim=True) / action_mask.sum(-1, keepdim=True).clamp(min=1)
        statistic = means.expand_as(log_ratio)
    statistic = statistic.exp() if loss.is_correction_gating == "ratio" else statistic
    low, high = loss.is_correction_threshold
    outside = (statistic < low) | (statistic > high)
    corrected = statistic.clamp(low, high) if loss.is_correction_mode == "clip" else weights.masked_fill(outside, 0.0)
    return corrected, token_mean(-log_ratio, action_mask), token_mean(outside, action_mask)


def corrected_share(loss: PolicyLoss, old_log_probs: PerToken, rollout_log_probs: PerToken, action_mask: Mask) -> float:
    """The share of the tokens that the correction clips or leaves out."""
    if type(loss) is PolicyLoss and loss.policy_loss_type == "gspo":
        return 0.0  # the ratio is to the engine, and no gate is looked at
    left_out = correction(loss, old_log_probs, rollout_log_probs, action_mask)[2]
    return 0.0 if left_out is None else left_out.item()


def gate(loss: PolicyLoss, old_log_probs: PerToken, rollout_log_probs: PerToken, log_ratio: PerToken) -> PerToken:
    """What the gate's bounds are compared with, before a mean over completions; of the ratio, its logarithm."""
    if loss.is_correction_gating == "ratio":
        return log_ratio
    p, q = (each.exp().clamp(1e-6, 1 - 1e-6) for each in (rollout_log_probs, old_log_probs))
    if loss.is_correction_gating == "tv":
        return (p - q).abs()
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
