"""From a padded batch of rollouts to one row of tokens without padding, each prompt of a group in it once."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int64, Shaped

Tensor = torch.Tensor
Made = TypeVar("Made")

# Attention pads segments to the longest in their call: one call for each part of similar length, few enough calls.
LEAST_LENGTH_RATIO = 0.75
FEWEST_OF_A_PART = 8


@dataclass(frozen=True, slots=True)
class Piece:
    """A prompt, or a completion with the prompt that it follows: where they are in the row, in tokens."""

    start: int
    length: int
    prompt_start: int = 0
    prompt_length: int = 0

    @property
    def path(self) -> int:
        """Tokens from the first of the prompt to the last of the piece: what its last token may attend to."""
        return self.prompt_length + self.length


@dataclass(frozen=True, slots=True)
class Part:
    """Pieces of a row that attention works on together, padded to the longest.

    queries: places in the row. real: their numbers in the flattened `queries`, padding left out. keys: places in the
    row of the prompt and then of the piece itself. query_positions, key_positions: positions in the sequence.
    prompt_length: tokens of the prompt of every piece, if all are as long, so that keys have no gap; else None.
    """

    queries: Int64[Tensor, "pieces longest"]
    real: Int64[Tensor, " real"]
    keys: Int64[Tensor, "pieces keys"]
    query_positions: Int64[Tensor, "pieces longest"]
    key_positions: Int64[Tensor, "pieces keys"]
    real_keys: Bool[Tensor, "pieces keys"]
    prompt_length: int | None


@dataclass(frozen=True)
class Layout:
    """Attention between the segments of a row: a prompt attends to itself, a completion to its prompt and to itself.

    pieces: in the order of the row, which they fill without a gap. device: of the tensors made from it.
    """

    pieces: tuple[Piece, ...]
    device: torch.device
    _made: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def tokens(self) -> int:
        return sum(piece.length for piece in self.pieces)

    @property
    def longest_path(self) -> int:
        return max(piece.path for piece in self.pieces)

    def once(self, name: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` returns, made once for all layers."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def parts(self, short: int) -> tuple[list[Part], Int64[Tensor, " tokens"]]:
        """Parts of pieces of similar length, and where each token is when the parts follow each other.

        short: pieces with longer paths are together only with those behind the same prompt.
        """
        return self.once(("parts", short), lambda: self._parts(short))

    def _parts(self, short: int) -> tuple[list[Part], Int64[Tensor, " tokens"]]:
        by_prompt: dict[object, list[Piece]] = {}
        for piece in self.pieces:
            whose = piece.prompt_start if piece.prompt_length else "prompts"
            by_prompt.setdefault("short" if piece.path <= short and piece.prompt_length else whose, []).append(piece)
        parts = []
        for pieces in by_prompt.values():
            parts += [
                self._part([pieces[number] for number in numbers])
                for numbers in by_length([piece.length for piece in pieces])
            ]
        places = torch.cat([part.queries.flatten()[part.real] for part in parts])
        order = torch.empty_like(places).index_copy_(0, places, torch.arange(len(places), device=self.device))
        return parts, order

    def _part(self, pieces: list[Piece]) -> Part:
        lengths = torch.tensor([piece.length for piece in pieces])
        prompt_lengths = torch.tensor([piece.prompt_length for piece in pieces])
        longest, longest_prompt = max(int(lengths.max()), 1), int(prompt_lengths.max())
        steps, prompt_steps = torch.arange(longest), torch.arange(longest_prompt)
        mask, prompt_mask = steps < lengths[:, None], prompt_steps < prompt_lengths[:, None]
        starts = torch.tensor([piece.start for piece in pieces])[:, None]
        prompt_starts = torch.tensor([piece.prompt_start for piece in pieces])[:, None]
        queries = torch.where(mask, starts + steps, 0)
        positions = prompt_lengths[:, None] + steps
        return Part(
            queries=queries.to(self.device),
            real=mask.flatten().nonzero()[:, 0].to(self.device),
            keys=torch.cat([torch.where(prompt_mask, prompt_starts + prompt_steps, 0), queries], dim=1).to(self.device),
            query_positions=positions.to(self.device),
            key_positions=torch.cat([prompt_steps.expand(len(pieces), -1), positions], dim=1).to(self.device),
            real_keys=torch.cat([prompt_mask, mask], dim=1).to(self.device),
            prompt_length=longest_prompt if bool((prompt_lengths == longest_prompt).all()) else None,
        )


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch as one row.

    predicts: the row position whose hidden state predicts an action token. targets: that token. actions: where these
    belong in the padded batch, row by row. counts: how many sequences of the batch a token is part of.
    """

    input_ids: Int64[Tensor, "1 tokens"]
    positions: Int64[Tensor, "1 tokens"]
    predicts: Int64[Tensor, " actions"]
    targets: Int64[Tensor, " actions"]
    actions: Bool[Tensor, "batch columns"]
    counts: Int64[Tensor, "1 tokens"]
    layout: Layout


def pack(
    sequences: Int64[Tensor, "batch tokens"],
    attention_mask: Shaped[Tensor, "batch tokens"],
    action_mask: Shaped[Tensor, "batch tokens-1"],
) -> Packed:
    """Pack a right-padded batch; rows with the same prompt share it.

    action_mask: not 0 at i where token i + 1 is an action. The last token of a row is only ever predicted, so it is
    left out of the input. What is returned is on the device of `sequences`.

    The prompt of a group is the same for all its completions, and causal attention makes its hidden states the
    same too: computing them once is exact. Prefix Grouper, https://arxiv.org/abs/2506.05433.
    """
    device = sequences.device
    sequences, attention_mask, actions = sequences.cpu(), attention_mask.cpu(), action_mask.bool().cpu()
    lengths = attention_mask.sum(dim=1).tolist()
    prompt_lengths = [
        int(row.int().argmax()) + 1 if row.any() else length - 1 for row, length in zip(actions, lengths, strict=True)
    ]
    tokens: list[Tensor] = []
    positions: list[Tensor] = []
    pieces: list[Piece] = []
    predicts: list[Tensor] = []
    paths: list[Tensor] = []
    prompt_at: dict[tuple[int, ...], Piece] = {}
    offset = 0

    def add(piece: Tensor, first_position: int) -> int:
        nonlocal offset
        tokens.append(piece)
        positions.append(torch.arange(first_position, first_position + len(piece)))
        offset += len(piece)
        return offset - len(piece)

    for row, (length, prompt_length) in enumerate(zip(lengths, prompt_lengths, strict=True)):
        key = tuple(sequences[row, :prompt_length].tolist())
        if key not in prompt_at:
            prompt_at[key] = Piece(add(sequences[row, :prompt_length], 0), prompt_length)
            pieces.append(prompt_at[key])
        prompt = prompt_at[key].start
        completion = sequences[row, prompt_length : length - 1]
        start = add(completion, prompt_length)
        if len(completion):
            pieces.append(Piece(start, len(completion), prompt, prompt_length))
        path = torch.cat([torch.arange(prompt, prompt + prompt_length), torch.arange(start, start + len(completion))])
        predicts.append(path[actions[row, : length - 1].nonzero()[:, 0]])
        paths.append(path)

    return Packed(
        input_ids=torch.cat(tokens)[None].to(device),
        positions=torch.cat(positions)[None].to(device),
        predicts=torch.cat(predicts).to(device),
        targets=sequences[:, 1:][actions].to(device),
        actions=actions.to(device),
        counts=torch.cat(paths).bincount(minlength=offset)[None].to(device),
        layout=Layout(tuple(pieces), device),
    )


def by_length(lengths: list[int]) -> list[list[int]]:
    """Numbers of pieces, those of like length together: padded to the longest, a part wastes little.

    From the longest down, a part ends where a piece is shorter than LEAST_LENGTH_RATIO of its longest and the part has
    at least FEWEST_OF_A_PART.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    parts: list[list[int]] = [[]]
    for number in order:
        part = parts[-1]
        if len(part) >= FEWEST_OF_A_PART and lengths[number] < LEAST_LENGTH_RATIO * lengths[part[0]]:
            parts.append([])
        parts[-1].append(number)
    return parts


def unpack(values: Shaped[Tensor, " actions"], packed: Packed) -> Shaped[Tensor, "batch columns"]:
    """Values of actions back in the padded batch, 0 elsewhere. Keeps the gradient."""
    padded = torch.zeros(packed.actions.shape, dtype=values.dtype, device=values.device)
    return padded.masked_scatter(packed.actions, values)
