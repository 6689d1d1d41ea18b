"""OpenRLHF's model for SFT, without padding."""

from typing import Any

from jaxtyping import Int64
from torch import Tensor

from openrlhf_math.modeling.packed_actor import PADDED, PackedActor


class TraceActor(PackedActor):
    """A padded batch goes through the model as one row of its real tokens, and no logits are kept.

    This is GRPO's packed row: what all sequences of a batch begin with, here their first token, is computed once.
    """

    def forward(  # type: ignore[override]  # the arguments of OpenRLHF's SFT trainer, which knows no action mask
        self,
        sequences: Int64[Tensor, "batch tokens"],
        attention_mask: Int64[Tensor, "batch tokens"],
        return_output: bool = False,
        **kwargs: Any,
    ) -> Tensor | tuple[Tensor, Any]:
        """Log-probabilities of tokens 1, 2, ..., float32 [batch, tokens - 1], 0 where there is padding."""
        if self.path == PADDED:
            return super().forward(sequences, attention_mask=attention_mask, return_output=return_output, **kwargs)
        return super().forward(sequences, attention_mask[:, 1:], attention_mask, return_output=return_output)
