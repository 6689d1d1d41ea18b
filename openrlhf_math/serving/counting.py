"""Tokens of a prompt, as the model's tokenizer counts them."""

from collections.abc import Callable

from openrlhf_math.data.prompts import chat_text, prompt_ids
from openrlhf_math.patches.remote_code import remote_code_trusted
from openrlhf_math.rerank.task import Turn


def token_counter(model: str) -> Callable[[Turn], int]:
    """model: whose tokenizer and chat template count."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=remote_code_trusted())

    def count(turn: Turn) -> int:
        text = chat_text(tokenizer, turn.messages, turn.sampling.template_variables)
        (ids,) = prompt_ids(tokenizer, [text], chat_template=True)
        return len(ids)

    return count
