"""Log-probabilities and entropies straight from hidden states: the logits of a few tokens at a time, none kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Float32, Int64
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from openrlhf_math.modeling.families import ModelConfig

Tensor = torch.Tensor

# Logits of one chunk, elements: 64 MiB in float32, near enough to the caches to be worked on in place.
CHUNK_ELEMENTS = 1 << 24
SIZES = (-6, 10)  # exponents of 2, of the numbers that stand for logits when a model's transform of them is found


@dataclass(frozen=True, slots=True)
class LogitTransform:
    """What a model does to logits after its head: z' = softcap tanh(scale z / softcap), or scale z without a cap."""

    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def between(
        cls, before: Float[Tensor, "*shape"], after: Float[Tensor, "*shape"], config: ModelConfig
    ) -> "LogitTransform":
        """The transform that gives the logits `after` for those of the head, `before`.

        Names in configurations do not show it: `logits_scaling` divides in Granite, multiplies in HyperCLOVA X, and has
        been applied before the head in MiniCPM3. config: of the model; its numbers are tried as caps and scales.
        Raises ValueError if there is none.
        """
        numbers = [value for value in vars(config.get_text_config()).values() if type(value) in (int, float) and value]
        before, exact = before.double(), after.double()
        scale = float((before * exact).sum() / before.square().sum()) if before.any() else 1.0
        named = [each for value in numbers for each in (float(value), 1 / value) if abs(each - scale) < 0.01 * scale]
        scales = [1.0, *sorted(named, key=lambda value: abs(value - scale))]
        candidates = [cls(each) for each in scales] + [cls(1.0, float(each)) for each in numbers if each > 0]
        step = torch.finfo(after.dtype).eps
        for group in (candidates, [cls(scale)]):
            errors = [(each.apply(before.clone()) - exact).abs() for each in group]
            within = [bool((each <= 4 * step * exact.abs() + 1e-6 * exact.abs().max()).all()) for each in errors]
            if any(within):  # several are, in bfloat16: the nearest is taken, of equals the first
                means = [each.mean().item() if fits else torch.inf for each, fits in zip(errors, within, strict=True)]
                return group[means.index(min(means))]
        raise ValueError("what it does to its logits after the output head is neither a scale nor a soft-cap")

    def apply(self, logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """In place, which is possible as no gradient flows through this."""
        if self.scale != 1:
            logits.mul_(self.scale)
        if self.softcap is not None:
            logits.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits

    def slope(self, transformed: Float[Tensor, "*shape"], grad: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The gradient of the logits, from that of what `apply` returned. In place."""
        if self.softcap is not None:
            grad.mul_(1 - (transformed / self.softcap) ** 2)
        return grad.mul_(self.scale) if self.scale != 1 else grad


PLAIN = LogitTransform()


class LogProbs(torch.autograd.Function):
    """From hidden states to log-probabilities and entropies of their targets.

    log p(t) = z_t - logsumexp(z) with z = transform(hidden weight^T + bias) / temperature;
    d log p(t) / dz = onehot(t) - p;  H = -sum p log p;  dH / dz = -p (log p + H).
    The backward pass computes the logits again, chunk by chunk, so that neither pass holds [n, vocabulary].
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "n size"],
        weight: Float[Tensor, "vocabulary size"],
        bias: Float[Tensor, " vocabulary"] | None,
        targets: Int64[Tensor, " n"],
        temperature: float,
        transform: LogitTransform = PLAIN,
    ) -> tuple[Float32[Tensor, " n"], Float32[Tensor, " n"]]:
        log_probs = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        entropies, normalisers = torch.empty_like(log_probs), torch.empty_like(log_probs)
        for part in _chunks(len(hidden), len(weight)):
            logits = _scaled(_logits(hidden[part], weight, bias, transform), temperature)
            normalisers[part] = normaliser = logits.logsumexp(dim=1)
            log_p = logits.sub_(normaliser[:, None])
            log_probs[part] = log_p.gather(1, targets[part, None])[:, 0]
            entropies[part] = -torch.linalg.vecdot(log_p.exp(), log_p)
        ctx.save_for_backward(hidden, weight, bias, targets, normalisers, entropies)
        ctx.temperature, ctx.transform = temperature, transform
        return log_probs, entropies

    @staticmethod
    def backward(
        ctx: Any, grad_log_probs: Float32[Tensor, " n"], grad_entropies: Float32[Tensor, " n"]
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normalisers, entropies = ctx.saved_tensors
        transform: LogitTransform = ctx.transform
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        entropy_counts = bool(grad_entropies.any())
        for part in _chunks(len(hidden), len(weight)):
            logits = _logits(hidden[part], weight, bias, transform)
            curved = logits.clone() if transform.softcap is not None else logits  # the next line works in place
            log_p = _scaled(logits, ctx.temperature).sub_(normalisers[part, None])
            if entropy_counts:
                slope = -grad_log_probs[part, None] - (log_p + entropies[part, None]) * grad_entropies[part, None]
            else:
                slope = -grad_log_probs[part, None]
            grad = log_p.exp_().mul_(slope)
            grad.scatter_add_(1, targets[part, None], grad_log_probs[part, None])
            grad = transform.slope(curved, _scaled(grad, ctx.temperature)).to(weight.dtype)
            torch.mm(grad, weight, out=grad_hidden[part])
            if grad_weight is not None:
                grad_weight.addmm_(grad.t(), hidden[part])
            if grad_bias is not None:
                grad_bias += grad.sum(dim=0)
        return grad_hidden, grad_weight, grad_bias, None, None, None


def _logits(
    hidden: Float[Tensor, "n size"],
    weight: Float[Tensor, "vocabulary size"],
    bias: Float[Tensor, " vocabulary"] | None,
    transform: LogitTransform,
) -> Float32[Tensor, "n vocabulary"]:
    """A new float32 tensor, to be worked on in place."""
    return transform.apply(F.linear(hidden, weight, bias).to(torch.float32, copy=True))


def _scaled(values: Float[Tensor, "*shape"], temperature: float) -> Float[Tensor, "*shape"]:
    return values.div_(temperature) if temperature != 1 else values


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    size = max(1, CHUNK_ELEMENTS // vocabulary)
    return [slice(start, start + size) for start in range(0, rows, size)]


class LogProbHead:
    """Reads log-probabilities off a model's output head in place of its logits.

    It replaces the head's `forward` for a call, not the head: parameter names, weight tying, adapters and DeepSpeed's
    hooks on the module stay as they are.
    """

    def __init__(self, transform: LogitTransform, temperature: float) -> None:
        self.transform = transform
        self.temperature = temperature

    @contextmanager
    def reading(
        self, model: nn.Module, places: Int64[Tensor, " n"], targets: Int64[Tensor, " n"]
    ) -> Iterator[list[Tensor]]:
        """While the block runs, a call of `model` puts [n, 2] into the list: log-probabilities and entropies.

        places: of hidden states in the flattened batch. The model itself returns no logits, so what
        it does to them after its head has no effect: `transform` replaces it.
        """
        head = output_head(model)
        logits_of, patched = head.forward, "forward" in vars(head)
        found: list[Tensor] = []

        def forward(hidden: Tensor) -> Tensor:
            return self._pairs(head, logits_of, hidden.flatten(0, -2).index_select(0, places), targets)

        def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            found.append(output)
            return torch.zeros(1, 1, 1, device=output.device)

        head.forward = forward
        # The last of the head's hooks, so that those of DeepSpeed have seen what the gradient flows through.
        hook = head.register_forward_hook(keep)
        try:
            yield found
        finally:
            hook.remove()
            if patched:
                head.forward = logits_of
            else:
                del head.forward

    def _pairs(
        self,
        head: nn.Module,
        logits_of: Callable[[Tensor], Tensor],
        hidden: Float[Tensor, "n size"],
        targets: Int64[Tensor, " n"],
    ) -> Float32[Tensor, "n 2"]:
        if type(head) is nn.Linear:
            pair = LogProbs.apply(hidden, head.weight, head.bias, targets, self.temperature, self.transform)
            return torch.stack(pair, dim=-1)
        # A head with an adapter, or in parts on several devices: its own forward pass, a chunk at a time.

        def of_chunk(hidden: Tensor, targets: Tensor) -> Tensor:
            logits = logits_of(hidden).float() * self.transform.scale
            if (cap := self.transform.softcap) is not None:
                logits = cap * torch.tanh(logits / cap)
            log_p = (logits / self.temperature).log_softmax(dim=-1)
            return torch.stack([log_p.gather(1, targets[:, None])[:, 0], -(log_p.exp() * log_p).sum(dim=-1)], dim=-1)

        vocabulary = getattr(head, "out_features", None) or len(cast(Tensor, head.weight))
        return torch.cat([
            checkpoint(of_chunk, hidden[part], targets[part], use_reentrant=False)
            for part in _chunks(len(hidden), vocabulary)
        ])  # fmt: skip


def logit_transform(model: nn.Module, config: ModelConfig, tokens: Int64[Tensor, "1 tokens"]) -> LogitTransform:
    """What a model does to its logits, seen in a forward pass of `tokens`. Raises ValueError.

    The logits of the head are replaced by numbers of all sizes: those of an untrained head are so small that a soft-cap
    leaves them as they are, and later ones are not.
    """
    given: list[Tensor] = []

    def replace(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        if not output.isfinite().all():
            raise ValueError("its logits are not finite, as weights of a damaged checkpoint give them")
        given.append(numbers_of_all_sizes(output))
        return given[-1].clone()

    hook = output_head(model).register_forward_hook(replace)
    try:
        logits = model(tokens, use_cache=False).logits
    finally:
        hook.remove()
    return LogitTransform.between(given[-1], logits, config)


def numbers_of_all_sizes(like: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """From 2^-6 to 2^10 and from -2^-6 to -2^10, over and over. Of the dtype and device of `like`."""
    sizes = torch.logspace(*SIZES, 64, base=2.0)
    ramp = torch.cat([sizes, -sizes]).to(like)
    return ramp[torch.arange(like.numel(), device=like.device) % len(ramp)].view(like.shape)


def output_head(model: nn.Module) -> nn.Module:
    """The module that gives a model's logits. Raises ValueError if the model does not name one."""
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[operator]  # PyTorch types it as a tensor
    if head is None:
        raise ValueError(f"{type(model).__name__} has no output head that it names")
    return head
