"""OpenRLHF's SFT dataset with prompt and completion tokenised apart, as a model that generates meets them."""

import torch
from openrlhf.datasets import SFTDataset

from openrlhf_math.data.prompts import prompt_ids


class TraceDataset(SFTDataset):
    """Rows are the tokens of the prompt, those of the completion, and the end of sequence.

    Upstream tokenises them as one text and counts the prompt's tokens apart: where the last characters of the prompt
    and the first of the completion make one token, the mask is off by one, and the model learns from a token it
    never sees. It also writes the end of sequence over the last token of a row that is too long; those are left out
    before (`sft_inputs`).
    """

    def __init__(self, *args, chat_template: bool, **kwargs) -> None:
        """chat_template: whether the prompts were rendered by one. args, kwargs: of OpenRLHF's SFTDataset."""
        self.chat_template = chat_template
        super().__init__(*args, **kwargs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """input_ids, attention_mask, loss_mask: [1, tokens]; the mask is 1 at i where token i + 1 is to be learned."""
        if self.pretrain_mode or self.multiturn:
            return super().__getitem__(index)
        end = self.tokenizer.eos_token_id
        (prompt,) = prompt_ids(self.tokenizer, [self.prompts[index]], self.chat_template)
        completion = self.tokenizer(self.responses[index], add_special_tokens=False)["input_ids"]
        if completion[-1] != end:
            completion.append(end)
        input_ids = torch.tensor([prompt + completion])
        loss_mask = torch.zeros_like(input_ids, dtype=torch.float32)
        loss_mask[0, len(prompt) - 1 : -1] = 1
        return input_ids, torch.ones_like(input_ids), loss_mask
