"""OpenRLHF's model for SFT, without padding."""

from openrlhf_math.modeling.packed_actor import PADDED, PackedActor


class TraceActor(PackedActor):
    """A padded batch goes through the model as one row of its real tokens, and no logits are kept.

    This is GRPO's packed row: what all sequences of a batch begin with, here their first token, is computed once.
    """

    def forward(self, sequences, attention_mask=None, return_output=False, **kwargs):
        """Log-probabilities of tokens 1, 2, ..., float32 [batch, tokens - 1], 0 where there is padding."""
        if self.path == PADDED:
            return super().forward(sequences, attention_mask=attention_mask, return_output=return_output, **kwargs)
        return super().forward(sequences, attention_mask[:, 1:], attention_mask, return_output=return_output)
