"""Labelled solutions as tensors: tokens, and at each step's tag the label."""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from openrlhf_math.prm.model import add_step_tag
from openrlhf_math.rerank.steps import encode_prm

Tensor = torch.Tensor
# In place of a label: a token that has none, and padding.
NO_LABEL, PADDING = -1.0, -2.0


class StepDataset(Dataset):
    """Takes the place of OpenRLHF's SFTDataset: rows of three tensors [1, tokens].

    Its trainer hands the first two to the model and the third, 1 where something is to be learned, to the loss. It
    leaves out the third's last column, at which a language model has nothing to predict: a row ends with a token
    more than is read.
    """

    def __init__(self, rows, tokenizer, max_length: int, strategy, **unused) -> None:
        """rows: with problem, steps and labels, as `rows.Solution`; none longer than the context."""
        add_step_tag(tokenizer)
        self.rows, self.tokenizer = rows, tokenizer

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids int64, labels float32 (0 to 1, NO_LABEL, PADDING), the mask of labels float32."""
        row = self.rows[index]
        return tensors(self.tokenizer, row["problem"], row["steps"], row["labels"])

    def collate_fn(self, items: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        """[batch, 1, tokens], padded on the right; the model takes the padding out again."""
        longest = max(ids.shape[1] for ids, _, _ in items)
        paddings = (self.tokenizer.pad_token_id, PADDING, 0.0)
        return tuple(
            torch.stack([_padded(item[part], longest, padding) for item in items])
            for part, padding in enumerate(paddings)
        )


def tensors(
    tokenizer, problem: str, steps: Sequence[str], labels: Sequence[float | None]
) -> tuple[Tensor, Tensor, Tensor]:
    """A solution as `StepDataset.__getitem__` returns it."""
    encoded = encode_prm(tokenizer, problem, steps)
    ids = torch.tensor([[*encoded.ids, tokenizer.pad_token_id]])
    values = torch.full(ids.shape, NO_LABEL)
    values[0, encoded.read] = torch.tensor([NO_LABEL if label is None else float(label) for label in labels])
    return ids, values, (values >= 0).float()


def _padded(row: Tensor, length: int, value: float) -> Tensor:
    return torch.nn.functional.pad(row, (0, length - row.shape[1]), value=value)
