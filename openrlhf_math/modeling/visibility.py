"""Which earlier tokens a token may attend to, read off the mask functions of Transformers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64, Integer

Tensor = torch.Tensor
MOST_PROBED = 96  # positions at which a mask function is evaluated, at the most


class UnsupportedMask(ValueError):
    """A model masks attention in a way that a packed row cannot express."""


@dataclass(frozen=True, slots=True)
class Visibility:
    """Causal attention, possibly local. Positions count from the first token of a sequence.

    window: a token sees itself and the window - 1 tokens before it. chunk: a token sees the tokens of its own chunk,
    [n chunk, (n + 1) chunk). At most one of the two is given.
    """

    window: int | None = None
    chunk: int | None = None

    def sees(self, query: Integer[Tensor, "*#shape"], key: Integer[Tensor, "*#shape"]) -> Bool[Tensor, "*#shape"]:
        """Whether the token at position `query` sees the one at `key`. The two are broadcast."""
        seen = key <= query
        if self.window is not None:
            seen = seen & (query - key < self.window)
        if self.chunk is not None:
            seen = seen & (query // self.chunk == key // self.chunk)
        return seen

    def first_key(self, query: int) -> int:
        """Position of the first token that the token at position `query` sees."""
        if self.window is not None:
            return max(0, query - self.window + 1)
        if self.chunk is not None:
            return query // self.chunk * self.chunk
        return 0

    def stretches(self, first: int, end: int, longest: int | None = None) -> Iterator[tuple[int, int]]:
        """The positions [first, end) in order, as stretches [first, end) of at most `longest`, none across the end of a
        chunk."""
        while first < end:
            stop = end if longest is None else min(end, first + longest)
            if self.chunk is not None:
                stop = min(stop, (first // self.chunk + 1) * self.chunk)
            yield first, stop
            first = stop


def visibility_of(
    mask_function: Callable[..., Tensor], local_size: int | None, tokens: int, device: torch.device | str
) -> Visibility:
    """What a mask function of Transformers means for sequences of up to `tokens` tokens.

    mask_function: (batch, head, query, key) to bool, index tensors that are broadcast. local_size: window or chunk of
    a layer with local attention, as Transformers hands it over. Raises UnsupportedMask if the function is neither
    causal, nor a causal window, nor a causal chunk: it is evaluated, not believed.
    """
    candidates = [Visibility()]
    if local_size is not None and local_size < tokens:
        candidates = [Visibility(window=local_size), Visibility(chunk=local_size)]
    positions = _probed_positions(tokens, local_size, device)
    zero = torch.zeros((), dtype=torch.long, device=device)
    found = mask_function(zero, zero, positions[:, None], positions[None, :])
    for candidate in candidates:
        if torch.equal(found.expand(len(positions), -1), candidate.sees(positions[:, None], positions[None, :])):
            return candidate
    raise UnsupportedMask("its attention mask is neither causal nor a causal window or chunk")


def _probed_positions(tokens: int, local_size: int | None, device: torch.device | str) -> Int64[Tensor, " positions"]:
    """Positions spread over the sequence, with those where a window or a chunk ends."""
    spread = torch.linspace(0, tokens - 1, min(tokens, MOST_PROBED // 2)).long().tolist()
    ends = [edge + by for edge in (local_size or 0, 2 * (local_size or 0)) for by in (-1, 0, 1)]
    chosen = sorted({position for position in [*spread, *ends, 0, 1, 2] if 0 <= position < tokens})
    return torch.tensor(chosen, device=device)
