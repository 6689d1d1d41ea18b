"""Process reward models in transformers: Qwen's, as it is published and vLLM loads it, and heads read at steps.

https://huggingface.co/Qwen/Qwen2.5-Math-PRM-7B, modeling_qwen2_rm.py; vllm/model_executor/models/qwen2_rm.py
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int64
from torch import nn
from transformers import PreTrainedModel, Qwen2Config, Qwen2Model, Qwen2PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.rerank.steps import STEP_TAG

Tensor = torch.Tensor
LABELS = 2  # wrong, right
# Rows of the embedding come in multiples of this, where it must grow: vLLM shards them, and matrix units like it.
ROWS = 64


class Float32Linear(nn.Linear):
    """A layer that computes in float32 whatever its weights are in, as vLLM does the heads of pooling models."""

    @classmethod
    def over(cls, head: nn.Linear) -> "Float32Linear":
        """With the weights of another head."""
        made = cls(head.in_features, head.out_features, bias=head.bias is not None, device="meta")
        made.weight, made.bias = head.weight, head.bias
        return made

    def forward(self, inputs: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.float()
        return nn.functional.linear(inputs.float(), self.weight.float(), bias)


class Qwen2ForProcessRewardModel(Qwen2PreTrainedModel):
    """A Qwen2 without its output head, and a head of two labels, wrong and right, that is read at step tags.

    The name is the architecture by which vLLM knows the checkpoint, of weights `model.*`, `score.0.*` and `score.2.*`.
    """

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__(config)
        config.num_labels = LABELS
        self.model = Qwen2Model(config)
        self.score = nn.Sequential(
            Float32Linear(config.hidden_size, config.hidden_size),
            nn.ReLU(),
            Float32Linear(config.hidden_size, LABELS),
        )
        self.post_init()

    def forward(self, input_ids: Int64[Tensor, "batch tokens"], **kwargs: Any) -> TokenClassifierOutput:
        """Its `logits`, float32 [batch, tokens, 2]. kwargs: of Qwen2Model."""
        return TokenClassifierOutput(logits=self.score(self.model(input_ids, **kwargs).last_hidden_state))


@contextmanager
def read_at(model: PreTrainedModel, places: Int64[Tensor, " n"]) -> Iterator[None]:
    """While the block runs, the head of `model` computes the tokens at `places` alone: logits are [batch, n, 2]."""
    hook = model.score.register_forward_pre_hook(lambda head, inputs: (inputs[0][:, places],))
    try:
        yield
    finally:
        hook.remove()


def add_step_tag(tokenizer: Tokenizer, model: PreTrainedModel | None = None) -> None:
    """Let the tokenizer know STEP_TAG as one token, and the model have an embedding for it.

    Qwen2.5-Math-PRM's own tokenizer has it; Qwen2.5's embedding has unused rows for it. A new tag begins as what the
    base has seen after steps, the end of a line: what it has learned of steps is not lost.
    """
    new = STEP_TAG not in tokenizer.get_vocab()
    if new:
        tokenizer.add_tokens([STEP_TAG], special_tokens=True)
    if model is None:
        return
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=ROWS)
    if new:
        from deepspeed.runtime.zero.partition_parameters import GatheredParameters

        rows = model.get_input_embeddings().weight
        line_end = tokenizer("\n", add_special_tokens=False)["input_ids"][-1]
        with torch.no_grad(), GatheredParameters(rows, modifier_rank=0, enabled=hasattr(rows, "ds_id")):
            rows[tokenizer.convert_tokens_to_ids(STEP_TAG)] = rows[line_end]
