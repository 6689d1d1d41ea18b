"""A kind of scorer of one's own: any chat model, asked after every step of a solution whether it is right so far.

PYTHONPATH=examples openrlhf-math solve ... --scorer own_scorer.StepVerifier --scorer-model MODEL
"""

from collections.abc import Sequence

from openrlhf_math.rerank.scorers import one_against_other, sigmoid
from openrlhf_math.rerank.steps import BLANK_LINE, MARK, Encoded, control_tokens, encode_marked, harmless


class StepVerifier:
    """The score of a step is the probability that the model continues with Yes and not No.

    All steps are read in one forward pass, so each question before the one that is read is answered with Yes.
    """

    separator = BLANK_LINE
    TASK = "Problem:\n{problem}\n\nJudge each step of this solution.\n"
    ANSWER = "Yes"

    def __init__(self, tokenizer, config) -> None:
        architecture = (config.architectures or ["none"])[0]
        if not architecture.endswith("ForCausalLM") or not tokenizer.chat_template:
            raise ValueError(f"it is a {architecture}, it must be a causal language model with a chat template")
        self._tokenizer = tokenizer
        self._controls = control_tokens(tokenizer)

    def engine_arguments(self) -> dict[str, object]:
        return one_against_other(self._tokenizer, "Yes", "No")

    def encode(self, problem: str, steps: Sequence[str]) -> Encoded:
        task = self.TASK.format(problem=harmless(problem, self._controls))
        messages = [{"role": "user", "content": task}]
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for step in steps:
            text += f"{harmless(step, self._controls)}\nIs this step right?\n{MARK}\n\n"
        return encode_marked(self._tokenizer, text, self.ANSWER, before=True)

    def read(self, logits: Sequence[float]) -> float:
        return sigmoid(logits[0])
