"""The loss of docs/losses.md written from its formulas, one completion at a time, and a policy to try it on.

Nothing here is the product's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import torch

VOCABULARY = 11


@dataclass
class Completion:
    """reference, old: log-probabilities of its tokens under the reference model (or a teacher) and the policy before
    the batch.

    rollout: those that the engine reported, None where they are `old`.
    own: which tokens the model wrote, None for all; of the others, a tool's, there are no log-probabilities.
    """

    prompt: list[int]
    tokens: list[int]
    reward: float
    truncated: bool = False
    advantage: float = 0.0
    reference: torch.Tensor | None = None
    old: torch.Tensor | None = None
    rollout: torch.Tensor | None = None
    own: list[bool] | None = None


def bigram_table(seed: int = 0) -> torch.Tensor:
    """Logits of the next token given this one, [VOCABULARY, VOCABULARY]."""
    return torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 0.7


class BigramActor(torch.nn.Module):
    """Called as OpenRLHF calls its actor. Counts the action tokens of each call."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(table.clone())
        self.rows: list[int] = []
        self.model = SimpleNamespace(skipped_steps=0)
        self.path = "shared"

    def balance_routers(self, wanted) -> None: ...

    def choose_path(self) -> None: ...

    def forward(self, sequences, action_mask, attention_mask=None, return_output=False, return_entropy=False, **_):
        self.rows.append(len(sequences))
        log_p = self.table[sequences[:, :-1]].log_softmax(-1)
        log_probs = log_p.gather(-1, sequences[:, 1:, None])[..., 0] * action_mask
        entropy = -(log_p.exp() * log_p).sum(-1)
        return (log_probs, SimpleNamespace(entropy=entropy)) if return_output else log_probs


def random_groups(groups: int, size: int, seed: int, cut_off: float = 0.0) -> list[Completion]:
    """Completions of 1 to 9 tokens, group by group; the prompt of a group is its number in two digits."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high, count=1):
        return torch.randint(low, high, (count,), generator=generator).tolist()

    completions = []
    for group in range(groups):
        for _ in range(size):
            tokens = draw(0, VOCABULARY, draw(1, 10)[0])
            reward = (0.0, 0.2, 1.0)[draw(0, 3)[0]]
            truncated = torch.rand((), generator=generator).item() < cut_off
            completions.append(Completion([group // 10, group % 10], tokens, reward, truncated))
    table, shift = bigram_table(1), bigram_table(2)
    for completion in completions:
        completion.reference = log_probs(table, completion)[0].detach()
        completion.old = log_probs(bigram_table() + 0.3 * shift, completion)[0].detach()
    return completions


def log_probs(table: torch.Tensor, completion: Completion) -> tuple[torch.Tensor, torch.Tensor]:
    """log pi(o_t) and entropy, [tokens] each."""
    before, chosen, entropies = completion.prompt[-1], [], []
    for token in completion.tokens:
        log_p = table[before] - table[before].exp().sum().log()
        chosen.append(log_p[token])
        entropies.append(-(log_p.exp() * log_p).sum())
        before = token
    return torch.stack(chosen), torch.stack(entropies)


def group_normalise(completions: list[Completion], size: int) -> None:
    """A_i = (r_i - mean) / std with the sample's standard deviation; 0 if all are equal."""
    for start in range(0, len(completions), size):
        group = completions[start : start + size]
        mean = sum(one.reward for one in group) / size
        std = (sum((one.reward - mean) ** 2 for one in group) / (size - 1)) ** 0.5
        for one in group:
            one.advantage = (one.reward - mean) / std if std > 1e-5 else 0.0


def averaged(terms: list[torch.Tensor], mode: str, length: int = 0) -> torch.Tensor:
    """terms: of each completion, [tokens]. length: the constant of Dr. GRPO."""
    if mode == "seq-mean-token-sum-norm":
        return sum(term.sum() for term in terms) / len(terms) / length
    if mode == "token-mean":
        return sum(term.sum() for term in terms) / sum(len(term) for term in terms)
    return sum(term.sum() / len(term) for term in terms) / len(terms)


def loss(
    log_probs_of: Callable[[Completion], tuple[torch.Tensor, torch.Tensor]],
    completions: list[Completion],
    mode: str,
    *,
    on_policy: bool = True,
    kl_coefficient: float = 0.0,
    entropy_coefficient: float = 0.0,
    kind: str = "ppo",
    clip: tuple[float, float] = (0.2, 0.2),
    length: int = 0,
    correction: str = "off",
    teacher: float | None = None,
    rewarded: float = 1.0,
) -> torch.Tensor:
    """Of one optimizer step over `completions`, which are all in the loss. KL is the estimator k3.

    log_probs_of: log pi(o_t) and entropy under the policy, [tokens] each. kind: of the policy loss. teacher: weight of
    its advantages, None without one. rewarded: weight of the completions'.
    """
    policy, kl, entropy = [], [], []
    for one in completions:
        now, entropies = log_probs_of(one)
        old = now.detach() if on_policy else one.old
        weights = rollout_weights(old, one.rollout, correction)
        advantages = [rewarded * one.advantage] * len(now)
        if teacher is not None:
            for token in range(len(now)):
                advantages[token] -= teacher * (float(old[token]) - float(one.reference[token]))
        terms = policy_terms(kind, now, old, advantages, clip)
        policy.append(torch.stack([weight * term for weight, term in zip(weights, terms, strict=True)]))
        back = one.reference - now
        kl.append(back.exp() - 1 - back)
        entropy.append(entropies)
    terms = [averaged(each, mode, length) for each in (policy, kl, entropy)]
    return terms[0] + kl_coefficient * terms[1] - entropy_coefficient * terms[2]


def policy_terms(kind: str, now, old, advantages: list[float], clip: tuple[float, float]) -> list[torch.Tensor]:
    """The policy loss of each token of a completion. advantages: of each token."""
    low, high = 1 - clip[0], 1 + clip[1]
    terms = []
    for token, advantage in enumerate(advantages):
        ratio = torch.exp(now[token] - old[token])
        if kind == "gspo":
            ratio = torch.exp(sum(now[each] - old[each] for each in range(len(now))) / len(now))
        if kind == "cispo":
            weight = min(max(ratio.item(), low), high)
            terms.append(-weight * advantage * now[token])
        elif kind == "sapo":
            tau = 1.0 if advantage > 0 else 1.05
            terms.append(-(4 / tau) / (1 + torch.exp(-tau * (ratio - 1))) * advantage)
        else:
            terms.append(-torch.minimum(ratio * advantage, ratio.clamp(low, high) * advantage))
    return terms


def rollout_weights(old: torch.Tensor, rollout: torch.Tensor | None, name: str) -> list[float]:
    """What the loss of each token is multiplied by: w = pi / pi_rollout, cut or left out as the preset says."""
    if name == "off":
        return [1.0] * len(old)
    weights = [math.exp(float(a) - float(b)) for a, b in zip(old, rollout, strict=True)]
    if name == "tis":
        return [min(weight, 2.0) for weight in weights]
    if name == "mis":
        return [weight if 0.5 <= weight <= 5.0 else 0.0 for weight in weights]
    mean = math.prod(weights) ** (1 / len(weights))
    return weights if 0.95 <= mean <= 1.05 else [0.0] * len(weights)


def gradient(table: torch.Tensor, *args, **kwargs) -> tuple[float, torch.Tensor]:
    """Value and gradient of `loss` for the bigram policy."""
    table = table.clone().requires_grad_()
    value = loss(partial(log_probs, table), *args, **kwargs)
    value.backward()
    return value.item(), table.grad
