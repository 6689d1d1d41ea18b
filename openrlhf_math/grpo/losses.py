"""Policy losses: OpenRLHF's `ppo` and `gspo`, ours, and a user's by dotted path, `package.module.function`.

A loss of ours or a user's is a function from `LossInputs` to a loss for every token. How tokens are averaged, over
micro-batches and processes as well, and the correction of rollouts are not its concern.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int64

from openrlhf_math.errors import UserError
from openrlhf_math.registry import Registry

Tensor = torch.Tensor
PerToken: TypeAlias = Float[Tensor, "completions actions"]
Scalar: TypeAlias = Float[Tensor, ""]
FLAG = "--actor.policy_loss_type"
UPSTREAM = ("ppo", "gspo")
LARGEST_LOG_RATIO = 20.0  # as OpenRLHF's; exp of it is a finite float32


@dataclass(frozen=True, slots=True)
class LossInputs:
    """A micro-batch: whole completions, of some or all groups of an optimizer step.

    Tensors are float32 [completions, actions] on the device of the policy unless it says otherwise. Column t is of the
    token at position t + 1 of the padded sequence.

    log_probs           log pi(o_t) under the policy that is trained, with a gradient
    old_log_probs       the same before the batch's first step, without a gradient; with one step a batch equal to
                        log_probs
    rollout_log_probs   what the engine gave when it sampled the token, or None where an executor keeps none
    advantages          of each token; without a KL in the reward and a teacher the same for all tokens of a completion
    action_mask         bool: the tokens that are in the loss; elsewhere every tensor holds padding
    group_ids           int64 [completions]: completions of one prompt have the same number. A group without room in one
                        micro-batch is in several
    clip_low, clip_high of --actor.eps_clip_low_high
    sapo_tau            of --math.sapo_tau, for advantages above 0 and below
    batch_num_tokens    float32 scalar: what a sum over tokens is divided by: the action tokens of the whole optimizer
                        step, over all processes, or global_batch_size times --math.loss_length
    global_batch_size   float32 scalar: its completions with an action token
    """

    log_probs: PerToken
    old_log_probs: PerToken
    rollout_log_probs: PerToken | None
    advantages: PerToken
    action_mask: Bool[Tensor, "completions actions"]
    group_ids: Int64[Tensor, " completions"]
    clip_low: float
    clip_high: float
    sapo_tau: tuple[float, float]
    batch_num_tokens: Scalar
    global_batch_size: Scalar

    def ratio(self) -> PerToken:
        """pi(o_t) / pi_old(o_t), with a gradient."""
        return (self.log_probs - self.old_log_probs).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()


LossFunction = Callable[[LossInputs], PerToken]
_REGISTRY: Registry[LossFunction] = Registry()
# Of a function from `LossInputs` to the loss of every token, float32 [completions, actions].
register_policy_loss = _REGISTRY.register


@register_policy_loss("cispo")
def cispo(inputs: LossInputs) -> PerToken:
    """-sg(clamp(r_t, 1 - eps_low, 1 + eps_high)) A_t log pi(o_t), r_t = pi / pi_old. sg: without a gradient.

    The clip bounds the weight of a token and not its gradient, so that no token loses its gradient.
    MiniMax-M1, https://arxiv.org/abs/2506.13585, equations 4 and 5.
    """
    weight = inputs.ratio().detach().clamp(1 - inputs.clip_low, 1 + inputs.clip_high)
    return -weight * inputs.advantages * inputs.log_probs


@register_policy_loss("sapo")
def sapo(inputs: LossInputs) -> PerToken:
    """-(4 / tau) sigmoid(tau (r_t - 1)) A_t, r_t = pi / pi_old; tau is another for A_t > 0 than for the rest.

    The gate's slope is 1 at r_t = 1 and falls smoothly on both sides, where `ppo` cuts it off.
    Soft Adaptive Policy Optimization, https://arxiv.org/abs/2511.20347.
    """
    above, below = inputs.sapo_tau
    tau = torch.where(inputs.advantages > 0, above, below)
    return -(4 / tau) * torch.sigmoid(tau * (inputs.ratio() - 1)) * inputs.advantages


def find_policy_loss(name: str) -> LossFunction | None:
    """The loss called `name`, or None if it is one of OpenRLHF's.

    Raises UserError if there is none, or if a dotted path does not lead to a function that gives a loss for each token.
    """
    if name in UPSTREAM:
        return None
    function = _REGISTRY.find(FLAG, name, UPSTREAM)
    if name not in _REGISTRY:
        _try_out(name, function)
    return function


def _try_out(name: str, function: LossFunction) -> None:
    """Raise UserError unless the function gives finite losses of the right shape, with a gradient, for two groups."""
    log_probs = torch.full((4, 3), -1.0, requires_grad=True)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool()
    inputs = LossInputs(
        log_probs=log_probs, old_log_probs=torch.full((4, 3), -1.1), rollout_log_probs=torch.full((4, 3), -1.05),
        advantages=torch.tensor([1.0, -1.0, 0.5, -0.5])[:, None].expand(4, 3), action_mask=mask,
        group_ids=torch.tensor([0, 0, 1, 1]), clip_low=0.2, clip_high=0.2, sapo_tau=(1.0, 1.05),
        batch_num_tokens=mask.sum().float(), global_batch_size=torch.tensor(4.0),
    )  # fmt: skip
    try:
        losses = function(inputs)
    except Exception as error:  # a user's code may raise anything
        raise UserError(f"{FLAG} {name}: it fails with 4 completions of 3 tokens: {error!r}") from error
    if not isinstance(losses, Tensor) or losses.shape != mask.shape:
        found = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise UserError(
            f"{FLAG} {name}: it must give a loss for each token, a tensor of shape (4, 3) for 4 completions of 3 "
            f"tokens, and gives {found}"
        )
    if not losses.requires_grad or not losses[mask].isfinite().all():
        raise UserError(f"{FLAG} {name}: its losses of 4 completions of 3 tokens are not finite or have no gradient")
