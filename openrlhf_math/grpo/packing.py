"""From a padded batch of rollouts to one row of tokens without padding, each prompt of a group in it once."""

from dataclasses import dataclass

import torch

Tensor = torch.Tensor

# Attention pads pieces to the longest beside them: one call for each part of like length, few enough calls.
MOST_ALIKE = 0.75
FEWEST_ALIKE = 8


@dataclass(frozen=True, slots=True)
class Segments:
    """Where pieces of a packed row lie, for attention over it.

    index: [segments, longest] positions in the row, 0 beyond a segment's end. mask: the same shape, which are real.
    numbers: [segments], which pieces these are.
    """

    index: Tensor
    mask: Tensor
    numbers: Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """Who attends to whom in a packed row: a prompt to itself, a completion to its prompt and to itself.

    prompts: all prompts. completions: the completions, those of like length together. prompt_of: [completions],
    each one's prompt.
    """

    prompts: Segments
    completions: list[Segments]
    prompt_of: Tensor


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch as one row.

    input_ids, positions: [1, tokens]. predicts: [actions], the row position whose hidden state predicts an action
    token. targets: [actions], that token. actions: [batch, actions] bool, where these belong in the padded batch,
    row by row.
    """

    input_ids: Tensor
    positions: Tensor
    predicts: Tensor
    targets: Tensor
    actions: Tensor
    layout: Layout


def pack(sequences: Tensor, attention_mask: Tensor, action_mask: Tensor) -> Packed:
    """Pack a right-padded batch; rows with the same prompt share it.

    sequences, attention_mask: [batch, tokens]. action_mask: [batch, tokens - 1], True at i where token i + 1 is an
    action. The last token of a row is only ever predicted, so it is left out of the input.

    The prompt of a group is the same for all its completions, and causal attention makes its hidden states the
    same too: computing them once is exact. Prefix Grouper, https://arxiv.org/abs/2506.05433.
    """
    actions = action_mask.bool()
    lengths = attention_mask.sum(dim=1).tolist()
    prompt_lengths = [
        int(row.int().argmax()) + 1 if row.any() else length - 1 for row, length in zip(actions, lengths, strict=True)
    ]
    tokens, positions, prompts, completions, prompt_of = [], [], [], [], []
    prompt_at: dict[tuple[int, ...], int] = {}
    predicts = [torch.empty(0, dtype=torch.long)] * len(lengths)
    offset = 0

    def add(piece: Tensor, first_position: int) -> Tensor:
        nonlocal offset
        where = torch.arange(offset, offset + len(piece))
        tokens.append(piece)
        positions.append(torch.arange(first_position, first_position + len(piece)))
        offset += len(piece)
        return where

    for row, (length, prompt_length) in enumerate(zip(lengths, prompt_lengths, strict=True)):
        key = tuple(sequences[row, :prompt_length].tolist())
        if key not in prompt_at:
            prompt_at[key] = len(prompts)
            prompts.append(add(sequences[row, :prompt_length], 0))
        prompt = prompts[prompt_at[key]]
        completion = add(sequences[row, prompt_length : length - 1], prompt_length)
        completions.append(completion)
        prompt_of.append(prompt_at[key])
        path = torch.cat([prompt, completion])  # row position of token i of this sequence
        predicts[row] = path[actions[row, : length - 1].nonzero()[:, 0]]

    return Packed(
        input_ids=torch.cat(tokens)[None],
        positions=torch.cat(positions)[None],
        predicts=torch.cat(predicts),
        targets=sequences[:, 1:][actions],
        actions=actions,
        layout=Layout(
            _segments(prompts, list(range(len(prompts)))),
            [_segments(completions, numbers) for numbers in alike(list(map(len, completions)))],
            torch.tensor(prompt_of),
        ),
    )


def alike(lengths: list[int]) -> list[list[int]]:
    """Numbers of pieces, those of like length together: padded to the longest, a part wastes little.

    From the longest down, a part ends where a piece is shorter than MOST_ALIKE of its longest and it holds enough.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    parts: list[list[int]] = [[]]
    for number in order:
        part = parts[-1]
        if len(part) >= FEWEST_ALIKE and lengths[number] < MOST_ALIKE * lengths[part[0]]:
            parts.append([])
        parts[-1].append(number)
    return parts


def _segments(pieces: list[Tensor], numbers: list[int]) -> Segments:
    chosen = [pieces[number] for number in numbers]
    lengths = torch.tensor([len(piece) for piece in chosen])
    mask = torch.arange(max(int(lengths.max()), 1)) < lengths[:, None]
    index = torch.zeros(mask.shape, dtype=torch.long)
    index[mask] = torch.cat(chosen)
    return Segments(index, mask, torch.tensor(numbers))


def unpack(values: Tensor, packed: Packed) -> Tensor:
    """Values of actions, [actions], back in the padded batch: [batch, actions], 0 elsewhere. Keeps the gradient."""
    padded = torch.zeros(packed.actions.shape, dtype=values.dtype, device=values.device)
    return padded.masked_scatter(packed.actions, values)
