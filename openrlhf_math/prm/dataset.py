"""Labelled solutions as tensors: tokens, and at each step's last one the label."""

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float32, Int64, Shaped
from torch.utils.data import Dataset

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.prm.forms import Form
from openrlhf_math.rerank.encoding import Encoded

Tensor = torch.Tensor


class Rows(Protocol):
    """A dataset with `problem`, `steps` and `labels`, as `rows.Solution`; none longer than the context."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict: ...


Row = tuple[Int64[Tensor, "1 tokens"], Float32[Tensor, "1 tokens"], Float32[Tensor, "1 tokens"]]
Batch = tuple[Int64[Tensor, "batch 1 longest"], Float32[Tensor, "batch 1 longest"], Float32[Tensor, "batch 1 longest"]]
# In place of a label: a token that has none, and padding.
NO_LABEL, PADDING = -1.0, -2.0


class StepDataset(Dataset):
    """Takes the place of OpenRLHF's SFTDataset: rows of three tensors.

    Its trainer hands the first two to the model and the third, 1 where something is to be learned, to the loss. It
    leaves out the third's last column, at which a language model has nothing to predict: a row ends with a token
    more than is read.
    """

    def __init__(
        self, rows: Rows, tokenizer: Tokenizer, max_length: int, strategy: object, *, form: Form, **unused: object
    ) -> None:
        form.prepare(tokenizer, None)
        self.rows, self.tokenizer, self.form = rows, tokenizer, form

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        """Token ids, labels (0 to 1, NO_LABEL, PADDING), the mask of labels."""
        row = self.rows[index]
        return tensors(self.form.encode(self.tokenizer, row["problem"], row["steps"]), row["labels"])

    def collate_fn(
        self, items: Sequence[tuple[Tensor, Tensor, Tensor]]
    ) -> tuple[
        Int64[Tensor, "batch 1 longest"], Float32[Tensor, "batch 1 longest"], Float32[Tensor, "batch 1 longest"]
    ]:
        """Padded on the right; the model takes the padding out again."""
        longest = max(ids.shape[1] for ids, _, _ in items)
        return (
            torch.stack([_padded(ids, longest, 0) for ids, _, _ in items]),
            torch.stack([_padded(labels, longest, PADDING) for _, labels, _ in items]),
            torch.stack([_padded(mask, longest, 0.0) for _, _, mask in items]),
        )


def tensors(encoded: Encoded, labels: Sequence[float | None]) -> Row:
    """A solution as `StepDataset.__getitem__` returns it. labels: one for each position that is read."""
    ids = torch.tensor([[*encoded.ids, encoded.ids[0]]])
    values = torch.full(ids.shape, NO_LABEL)
    values[0, encoded.read] = torch.tensor([NO_LABEL if label is None else float(label) for label in labels])
    return ids, values, (values >= 0).float()


def _padded(row: Shaped[Tensor, "1 tokens"], length: int, value: float) -> Shaped[Tensor, "1 {length}"]:
    return torch.nn.functional.pad(row, (0, length - row.shape[1]), value=value)
