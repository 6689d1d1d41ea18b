"""GRPO's loss written down naively: one unpadded sequence at a time, all logits, the plain formula, autograd.

Nothing here comes from openrlhf_math.
"""

from dataclasses import dataclass

import torch

Tensor = torch.Tensor

PROMPTS = [12, 5]
COMPLETIONS = [[40, 7, 1], [3, 21, 15]]
ADVANTAGES = [1.0, -0.7, 0.4, -1.2, 0.9, 0.5]
TEMPERATURE = 0.7


@dataclass(frozen=True)
class Batch:
    """Groups padded on the right. sequences, attention_mask: [batch, tokens]; action_mask: [batch, tokens - 1].

    rows: prompt length and tokens of each sequence without padding.
    """

    rows: list[tuple[int, Tensor]]
    sequences: Tensor
    attention_mask: Tensor
    action_mask: Tensor

    def to(self, device: str) -> "Batch":
        rows = [(prompt, tokens.to(device)) for prompt, tokens in self.rows]
        return Batch(rows, *(each.to(device) for each in (self.sequences, self.attention_mask, self.action_mask)))


@dataclass(frozen=True)
class Outcome:
    """log_probs, entropies: float32 [batch, tokens - 1], 0 where there is no action. gradients: by parameter name."""

    log_probs: Tensor
    entropies: Tensor
    gradients: dict[str, Tensor]


@dataclass(frozen=True)
class Difference:
    """log_probs, entropies: largest, nats. gradient: |g - g'| / |g'| over all parameters. cosine: between the two."""

    log_probs: float
    entropies: float
    gradient: float
    cosine: float


def batch(first_word: int, vocabulary: int, seed: int = 0) -> Batch:
    """Groups of uneven length, of words from `first_word` on."""
    generator = torch.Generator().manual_seed(seed)

    def words(count: int) -> Tensor:
        return torch.randint(first_word, vocabulary, (count,), generator=generator)

    rows = []
    for length, group in zip(PROMPTS, COMPLETIONS, strict=True):
        prompt = words(length)
        rows += [(length, torch.cat([prompt, words(count)])) for count in group]
    longest = max(len(tokens) for _, tokens in rows)
    sequences = torch.zeros(len(rows), longest, dtype=torch.long)
    attention_mask = torch.zeros_like(sequences)
    action_mask = torch.zeros(len(rows), longest - 1, dtype=torch.bool)
    for row, (prompt, tokens) in enumerate(rows):
        sequences[row, : len(tokens)] = tokens
        attention_mask[row, : len(tokens)] = 1
        action_mask[row, prompt - 1 : len(tokens) - 1] = True
    return Batch(rows, sequences, attention_mask, action_mask)


def loss(log_probs: Tensor, entropies: Tensor, action_mask: Tensor, entropy_weight: float = 0.0) -> Tensor:
    """-1/n sum_i 1/|o_i| sum_t (r_it A_i + w H_it), with r_it = pi(o_it) / pi_old(o_it), of which the value is 1.

    log_probs, entropies, action_mask: [batch, tokens - 1]. entropy_weight: w.
    """
    ratios = torch.exp(log_probs - log_probs.detach())
    terms = [
        (ratios[row][actions] * advantage + entropy_weight * entropies[row][actions]).mean()
        for row, (actions, advantage) in enumerate(zip(action_mask, ADVANTAGES, strict=True))
    ]
    return -torch.stack(terms).mean()


def outcome(model, data: Batch, entropy_weight: float = 0.0) -> Outcome:
    """Of a Transformers model in evaluation mode."""
    shape = data.action_mask.shape
    log_probs, entropies = (torch.zeros(shape, device=data.action_mask.device) for _ in range(2))
    for row, (prompt, tokens) in enumerate(data.rows):
        all_log_probs = log_softmax(model, tokens)
        predicted = all_log_probs[torch.arange(len(tokens) - 1), tokens[1:]]
        entropy = -(all_log_probs.exp() * all_log_probs).sum(dim=-1)
        actions = slice(prompt - 1, len(tokens) - 1)
        log_probs[row, actions] = predicted[actions]
        entropies[row, actions] = entropy[actions]
    model.zero_grad()
    loss(log_probs, entropies, data.action_mask, entropy_weight).backward()
    return Outcome(log_probs.detach(), entropies.detach(), gradients(model))


def log_softmax(model, tokens: Tensor) -> Tensor:
    """log p(. | tokens up to t) at the temperature, float32 [tokens - 1, vocabulary]."""
    reset_rope(model)
    logits = model(input_ids=tokens[None], use_cache=False).logits[0, :-1]
    return torch.log_softmax(logits.float() / TEMPERATURE, dim=-1)


def reset_rope(model) -> None:
    """Forget the longest sequence seen: with dynamic NTK a model's frequencies depend on what it read before."""
    for module in model.modules():
        if hasattr(module, "max_seq_len_cached") and hasattr(module, "original_inv_freq"):
            module.max_seq_len_cached = module.original_max_seq_len
            module.register_buffer("inv_freq", module.original_inv_freq, persistent=False)


def gradients(model) -> dict[str, Tensor]:
    """Of all parameters that got one, float32."""
    return {name: each.grad.float() for name, each in model.named_parameters() if each.grad is not None}


def leak(model, data: Batch) -> float:
    """By how much log-probabilities change with a token that comes after them: 0 in a causal model."""
    _, tokens = max(data.rows, key=lambda row: len(row[1]))
    changed = tokens.clone()
    changed[-5:] = tokens[:5]
    with torch.no_grad():
        one, other = log_softmax(model, tokens), log_softmax(model, changed)
    return (one - other)[: len(tokens) - 5].abs().max().item()


def difference(found: Outcome, expected: Outcome) -> Difference:
    """A parameter without a gradient has gradient 0."""
    missing = torch.zeros(())
    dot = found_square = expected_square = difference_square = torch.zeros((), dtype=torch.float64)
    for name in found.gradients.keys() | expected.gradients.keys():
        one = found.gradients.get(name, missing).double()
        other = expected.gradients.get(name, missing).double()
        dot = dot + (one * other).sum()
        found_square = found_square + one.square().sum()
        expected_square = expected_square + other.square().sum()
        difference_square = difference_square + (one - other).square().sum()
    return Difference(
        log_probs=_largest(found.log_probs - expected.log_probs),
        entropies=_largest(found.entropies - expected.entropies),
        gradient=(difference_square / expected_square).sqrt().item(),
        cosine=(dot / (found_square * expected_square).sqrt()).item(),
    )


def _largest(values: Tensor) -> float:
    """NaN if there is one."""
    return values.abs().max().item()
