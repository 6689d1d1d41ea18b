"""Log-probabilities and entropies straight from hidden states: the logits of a few tokens at a time, none kept."""

import torch
from torch import nn
from torch.nn import functional as F

Tensor = torch.Tensor

# Logits of one chunk, elements: 64 MiB in float32, near enough to the caches to be worked on in place.
CHUNK_ELEMENTS = 1 << 24
# Applied to logits after the head; a model with one of these needs all of them at once.
LOGIT_TRANSFORMS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


class LogProbs(torch.autograd.Function):
    """hidden [n, size], weight [vocabulary, size], targets [n] -> log-probabilities and entropies, float32 [n].

    log p(t) = z_t - logsumexp(z) with z = (hidden weight^T + bias) / temperature;
    d log p(t) / dz = onehot(t) - p;  H = -sum p log p;  dH / dz = -p (log p + H).
    The backward pass computes the logits again, chunk by chunk, so that neither pass holds [n, vocabulary].
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float):
        log_probs = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        entropies, normalisers = torch.empty_like(log_probs), torch.empty_like(log_probs)
        for part in _chunks(len(hidden), len(weight)):
            logits = _logits(hidden[part], weight, bias, temperature)
            normalisers[part] = normaliser = logits.logsumexp(dim=1)
            log_p = logits.sub_(normaliser[:, None])
            log_probs[part] = log_p.gather(1, targets[part, None])[:, 0]
            entropies[part] = -torch.linalg.vecdot(log_p.exp(), log_p)
        ctx.save_for_backward(hidden, weight, bias, targets, normalisers, entropies)
        ctx.temperature = temperature
        return log_probs, entropies

    @staticmethod
    def backward(ctx, grad_log_probs: Tensor, grad_entropies: Tensor):
        hidden, weight, bias, targets, normalisers, entropies = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        entropy_counts = bool(grad_entropies.any())
        for part in _chunks(len(hidden), len(weight)):
            log_p = _logits(hidden[part], weight, bias, ctx.temperature).sub_(normalisers[part, None])
            if entropy_counts:
                slope = -grad_log_probs[part, None] - (log_p + entropies[part, None]) * grad_entropies[part, None]
            else:
                slope = -grad_log_probs[part, None]
            grad = log_p.exp_().mul_(slope)
            grad.scatter_add_(1, targets[part, None], grad_log_probs[part, None])
            if ctx.temperature != 1:
                grad /= ctx.temperature
            grad = grad.to(weight.dtype)
            torch.mm(grad, weight, out=grad_hidden[part])
            if grad_weight is not None:
                grad_weight.addmm_(grad.t(), hidden[part])
            if grad_bias is not None:
                grad_bias += grad.sum(dim=0)
        return grad_hidden, grad_weight, grad_bias, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """A new float32 tensor, to be worked on in place."""
    logits = F.linear(hidden, weight, bias).to(torch.float32, copy=True)
    return logits.div_(temperature) if temperature != 1 else logits


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    size = max(1, CHUNK_ELEMENTS // vocabulary)
    return [slice(start, start + size) for start in range(0, rows, size)]


class LogProbHead:
    """A model's output head that gives log-probabilities instead of logits while it knows the targets.

    It replaces the head's `forward`, not the head: parameter names, weight tying and DeepSpeed's hooks on the module
    stay as they are.
    """

    def __init__(self, model: nn.Module, temperature: float) -> None:
        self.head = model.get_output_embeddings()
        self.temperature = temperature
        self.targets: Tensor | None = None
        self.logits_of = self.head.forward
        self.head.forward = self.forward

    @staticmethod
    def fits(model: nn.Module) -> bool:
        """Whether the model's logits are nothing but a linear head of its hidden states."""
        head = model.get_output_embeddings()
        transformed = any(getattr(model.config, name, None) not in (None, 1.0) for name in LOGIT_TRANSFORMS)
        return isinstance(head, nn.Linear) and not transformed

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden: [1, n, size]. Returns [1, n, 2], log-probability and entropy, or logits without targets."""
        if self.targets is None:
            return self.logits_of(hidden)
        weight, bias = self.head.weight, getattr(self.head, "bias", None)
        pair = LogProbs.apply(hidden[0], weight, bias, self.targets, self.temperature)
        return torch.stack(pair, dim=-1)[None]
