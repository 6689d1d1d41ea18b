"""From a padded batch of rollouts to one row of tokens without padding, each prompt of a group in it once."""

from dataclasses import dataclass, fields, is_dataclass, replace

import torch

Tensor = torch.Tensor

# Attention pads pieces to the longest beside them: one call for each part of like length, few enough calls.
MOST_ALIKE = 0.75
FEWEST_ALIKE = 8


@dataclass(frozen=True, slots=True)
class Part:
    """Pieces of a packed row that attention works on together, padded to the longest.

    index: [pieces, longest] positions in the row, 0 beyond a piece's end. mask: the same shape, which are real.
    real: their numbers in the flattened mask. prompts: [pieces], the number of the prompt each follows, or None for the
    prompts themselves.
    bias: [pieces, longest, keys] to add to attention scores, 0 where a token sees the key. The keys are those of the
    prompt it follows, then those of the piece itself.
    """

    index: Tensor
    mask: Tensor
    real: Tensor
    prompts: Tensor | None
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """Who attends to whom in a packed row: a prompt to itself, a completion to its prompt and to itself.

    completions: those of like length together. order: [tokens], where each token of the row is when the parts lie one
    after another.
    """

    prompts: Part
    completions: list[Part]
    order: Tensor


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


def pack(sequences: Tensor, attention_mask: Tensor, action_mask: Tensor, dtype=torch.float32) -> Packed:
    """Pack a right-padded batch; rows with the same prompt share it.

    sequences, attention_mask: [batch, tokens]. action_mask: [batch, tokens - 1], True at i where token i + 1 is an
    action. The last token of a row is only ever predicted, so it is left out of the input. dtype: of attention
    scores. What is returned lies on the device of `sequences`.

    The prompt of a group is the same for all its completions, and causal attention makes its hidden states the
    same too: computing them once is exact. Prefix Grouper, https://arxiv.org/abs/2506.05433.
    """
    device = sequences.device
    sequences, attention_mask, actions = sequences.cpu(), attention_mask.cpu(), action_mask.bool().cpu()
    lengths = attention_mask.sum(dim=1).tolist()
    prompt_lengths = [
        int(row.int().argmax()) + 1 if row.any() else length - 1 for row, length in zip(actions, lengths, strict=True)
    ]
    tokens, positions, prompts, completions, prompt_of, predicts = [], [], [], [], [], []
    prompt_at: dict[tuple[int, ...], int] = {}
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
        predicts.append(path[actions[row, : length - 1].nonzero()[:, 0]])

    prompt_part = _part(prompts, dtype)
    completion_parts = [
        _part([completions[n] for n in numbers], dtype, torch.tensor([prompt_of[n] for n in numbers]), prompt_part.mask)
        for numbers in alike(list(map(len, completions)))
    ]
    packed = Packed(
        input_ids=torch.cat(tokens)[None],
        positions=torch.cat(positions)[None],
        predicts=torch.cat(predicts),
        targets=sequences[:, 1:][actions],
        actions=actions,
        layout=Layout(prompt_part, completion_parts, _order([prompt_part, *completion_parts])),
    )
    return _moved(packed, device)


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


def _part(pieces: list[Tensor], dtype, prompts: Tensor | None = None, prompt_mask: Tensor | None = None) -> Part:
    """pieces: row positions of each. prompts: the prompt each follows. prompt_mask: the mask of all prompts."""
    lengths = torch.tensor([len(piece) for piece in pieces])
    longest = max(int(lengths.max()), 1)
    mask = torch.arange(longest) < lengths[:, None]
    index = torch.zeros(mask.shape, dtype=torch.long)
    index[mask] = torch.cat(pieces)
    sees = torch.ones(longest, longest, dtype=torch.bool).tril() & mask[:, None, :]
    if prompts is not None:
        to_prompt = prompt_mask[prompts][:, None, :].expand(-1, longest, -1)
        sees = torch.cat([to_prompt, sees], dim=2)
    bias = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)
    return Part(index, mask, mask.flatten().nonzero()[:, 0], prompts, bias)


def _order(parts: list[Part]) -> Tensor:
    places = torch.cat([part.index.flatten()[part.real] for part in parts])
    return torch.empty_like(places).index_copy_(0, places, torch.arange(len(places)))


def _moved(value, device: torch.device):
    """The same with every tensor in it on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, list):
        return [_moved(item, device) for item in value]
    if is_dataclass(value):
        return replace(value, **{each.name: _moved(getattr(value, each.name), device) for each in fields(value)})
    return value


def unpack(values: Tensor, packed: Packed) -> Tensor:
    """Values of actions, [actions], back in the padded batch: [batch, actions], 0 elsewhere. Keeps the gradient."""
    padded = torch.zeros(packed.actions.shape, dtype=values.dtype, device=values.device)
    return padded.masked_scatter(packed.actions, values)
