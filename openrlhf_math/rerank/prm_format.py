"""How Qwen2.5-Math-PRM reads a solution: what it scores is what it is trained on.

https://huggingface.co/Qwen/Qwen2.5-Math-PRM-7B, "Quick Start"; https://arxiv.org/abs/2501.07301
"""

from collections.abc import Sequence

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.rerank.encoding import MARK, Encoded, control_tokens, encode_marked, harmless

SYSTEM_PROMPT = r"Please reason step by step, and put your final answer within \boxed{}."
STEP_TAG = "<extra_0>"


def encode_prm(tokenizer: Tokenizer, problem: str, steps: Sequence[str]) -> Encoded:
    """A chat of system prompt, problem and solution, with STEP_TAG behind every step; scores stand at the tags.

    tokenizer: with a chat template, and STEP_TAG as a token of its own. steps: at least one, see `split_steps`.
    """
    controls = (*control_tokens(tokenizer), STEP_TAG)
    messages = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": harmless(problem, controls)},
        {"role": "assistant", "content": MARK},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    solution = "".join(harmless(step, controls) + MARK for step in steps)
    return encode_marked(tokenizer, text.replace(MARK, solution), STEP_TAG)
