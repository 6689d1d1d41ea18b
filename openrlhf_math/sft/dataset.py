"""OpenRLHF's SFT dataset over rows that are tokens already, with what is learned among them."""

from types import SimpleNamespace
from typing import Protocol

import torch
from jaxtyping import Float32, Int64
from openrlhf.datasets import SFTDataset
from torch import Tensor

from openrlhf_math.data.prompts import Tokenizer


class Rows(Protocol):
    """A dataset with `ids` and `learned`, as `sft.render.Trace`; none longer than the context."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict: ...


class Strategy(Protocol):
    """OpenRLHF's, of which the settings are read."""

    args: SimpleNamespace


class TraceDataset(SFTDataset):
    """The rows that `sft_inputs` has written, as they are.

    Upstream tokenises text, prompt and completion as one and counts the prompt's tokens apart: where the last
    characters of the prompt and the first of the completion make one token, the mask is off by one. It also writes the
    end of sequence over the last token of a row that is too long; those are left out before. Of upstream's class the
    batches are left: rows are padded on the right.
    """

    def __init__(self, rows: Rows, tokenizer: Tokenizer, max_length: int, strategy: Strategy, **unused: object) -> None:
        """The tokenizer, which is saved with the model, gets the chat template that the rows were rendered with."""
        torch.utils.data.Dataset.__init__(self)
        self.rows, self.tokenizer = rows, tokenizer
        if template := strategy.args.data.tokenizer_chat_template:
            tokenizer.chat_template = template

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(
        self, index: int
    ) -> tuple[Int64[Tensor, "1 tokens"], Int64[Tensor, "1 tokens"], Float32[Tensor, "1 tokens"]]:
        """input_ids, attention_mask, loss_mask; the last is 1 at i where token i + 1 is to be learned."""
        row = self.rows[index]
        input_ids = torch.tensor([row["ids"]])
        loss_mask = torch.zeros_like(input_ids, dtype=torch.float32)
        for start, stop in row["learned"]:
            loss_mask[0, start - 1 : stop - 1] = 1
        return input_ids, torch.ones_like(input_ids), loss_mask
