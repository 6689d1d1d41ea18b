"""Kinds of scorers: how each writes a solution for its model, where it reads, and how logits become a score.

Any of them takes one forward pass for all steps of a completion. Those that judge it as a whole are `reward_models`.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.rerank.encoding import MARK, Encoded, control_tokens, encode_marked, harmless
from openrlhf_math.rerank.reward_models import RewardModel
from openrlhf_math.rerank.scorer_kind import (
    SCORERS,
    ScorerKind,
    architecture,
    causal_architecture,
    check_architecture,
    check_causal,
    check_chat,
    check_labels,
    find_scorer,
    register_scorer,
    step_separator,
)
from openrlhf_math.rerank.steps import BLANK_LINE, LINE_END, STEP_TAG, encode_prm, encode_trl

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["SCORERS", "ScorerKind", "find_scorer", "one_against_other", "register_scorer", "sigmoid"]


@register_scorer("qwen2.5-math-prm")
class QwenMathPRM:
    """A head of two labels, wrong and right, read at a tag behind every step. https://arxiv.org/abs/2501.07301"""

    separator: str | None = BLANK_LINE

    def __init__(self, tokenizer: Tokenizer, config: "PretrainedConfig") -> None:
        check_architecture(config, "Qwen2ForProcessRewardModel")
        check_chat(tokenizer)
        if STEP_TAG not in tokenizer.get_vocab():
            raise ValueError(f"its tokenizer has no token {STEP_TAG}")
        self._tokenizer = tokenizer

    def engine_arguments(self) -> dict[str, Any]:
        return {}

    def encode(self, problem: str, steps: Sequence[str]) -> Encoded:
        return encode_prm(self._tokenizer, problem, steps)

    def read(self, logits: Sequence[float]) -> float:
        wrong, right = logits
        return sigmoid(right - wrong)  # softmax over the two


@register_scorer("math-shepherd")
class MathShepherd:
    """A causal LM that says `+` or `-` at the tag behind every step. https://arxiv.org/abs/2312.08935

    https://huggingface.co/peiyi9979/math-shepherd-mistral-7b-prm: a line is a step and begins with `Step 1: `, which is
    written where it is missing.
    """

    separator: str | None = "\n"
    TAG = "ки"

    def __init__(self, tokenizer: Tokenizer, config: "PretrainedConfig") -> None:
        check_causal(config)
        self._tokenizer = tokenizer
        self._controls = (*control_tokens(tokenizer), self.TAG)

    def engine_arguments(self) -> dict[str, Any]:
        return one_against_other(self._tokenizer, "+", "-")

    def encode(self, problem: str, steps: Sequence[str]) -> Encoded:
        lines = []
        for number, step in enumerate(steps, start=1):
            begin = f"Step {number}: "
            lines.append(("" if step.startswith(begin) else begin) + harmless(step, self._controls) + " " + MARK)
        text = harmless(problem, self._controls) + " " + "\n".join(lines)
        return encode_marked(self._tokenizer, text, self.TAG, add_special_tokens=True)

    def read(self, logits: Sequence[float]) -> float:
        return sigmoid(logits[0])


@register_scorer("rlhflow-prm")
class RLHFlowPRM:
    """A chat in which every step is a user's turn, answered with `+` or `-`. https://arxiv.org/abs/2405.07863

    https://github.com/RLHFlow/RLHF-Reward-Modeling, math-rm: the problem is before the first step, and every turn
    before the one that is read is answered with `+`.
    """

    separator: str | None = BLANK_LINE

    def __init__(self, tokenizer: Tokenizer, config: "PretrainedConfig") -> None:
        check_causal(config)
        check_chat(tokenizer)
        self._tokenizer = tokenizer
        self._controls = control_tokens(tokenizer)

    def engine_arguments(self) -> dict[str, Any]:
        return one_against_other(self._tokenizer, "+", "-")

    def encode(self, problem: str, steps: Sequence[str]) -> Encoded:
        messages = []
        for step in (f"{problem} {steps[0]}", *steps[1:]):
            messages.append({"role": "user", "content": harmless(step, self._controls)})
            messages.append({"role": "assistant", "content": MARK})
        text = self._tokenizer.apply_chat_template(messages, tokenize=False)
        return encode_marked(self._tokenizer, text, "+", before=True)

    def read(self, logits: Sequence[float]) -> float:
        return sigmoid(logits[0])


@register_scorer("skywork-o1-prm")
class SkyworkPRM:
    """A value head, read at the line's end behind every step; its sigmoid is the score.

    https://github.com/SkyworkAI/skywork-o1-prm-inference, prepare_input: the completion is split at every line's end,
    empty lines are steps too, nothing is stripped, and every step and its line's end are tokenized alone.
    """

    separator: str | None = "\n"

    def __init__(self, tokenizer: Tokenizer, config: "PretrainedConfig") -> None:
        check_architecture(config, "Qwen2ForPrmModel")
        self._tokenizer = tokenizer
        self._controls = control_tokens(tokenizer)

    def engine_arguments(self) -> dict[str, Any]:
        from openrlhf_math.rerank import vllm_value_head  # vLLM does not know the architecture

        return {
            "convert": "classify",
            "hf_overrides": {"num_labels": 1},
            "worker_extension_cls": f"{vllm_value_head.__name__}.ValueHeadWorker",
        }

    def split(self, response: str) -> list[str]:
        return response.split(self.separator or "")

    def encode(self, problem: str, steps: Sequence[str]) -> Encoded:
        ids = self._ids((self._tokenizer.bos_token or "") + harmless(problem, self._controls) + "\n")
        end = self._ids(self.separator or "")[-1]
        read = []
        for step in steps:
            ids += [*self._ids(harmless(step, self._controls)), end]
            read.append(len(ids) - 1)
        return Encoded(ids, read)

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def read(self, logits: Sequence[float]) -> float:
        return sigmoid(logits[0])


@register_scorer("trl-prm")
class TokenClassifier:
    """A token classifier of two labels, wrong and right, as TRL's PRMTrainer and `prm train` train it: read behind
    every step. A separator that is named in config.json goes before the line's end."""

    separator: str | None = LINE_END

    def __init__(self, tokenizer: Tokenizer, config: "PretrainedConfig") -> None:
        if not architecture(config).endswith("ForTokenClassification"):
            raise ValueError(f"it is a {architecture(config)}, not a token classifier")
        check_labels(config, 2)
        self._causal = causal_architecture(config)
        self._tokenizer = tokenizer
        self.separator = step_separator(config) or LINE_END

    def engine_arguments(self) -> dict[str, Any]:
        return {"convert": "classify", "hf_overrides": {"num_labels": 2, "architectures": [self._causal]}}

    def encode(self, problem: str, steps: Sequence[str]) -> Encoded:
        return encode_trl(self._tokenizer, problem, steps, self.separator or LINE_END)

    def read(self, logits: Sequence[float]) -> float:
        wrong, right = logits
        return sigmoid(right - wrong)  # softmax over the two


register_scorer("reward-model")(RewardModel)


@register_scorer("verifier")
class Verifier:
    """A chat model that is asked whether the solution is right: the probability that it begins with Yes and not No.

    GenRM without a chain of thought, https://arxiv.org/abs/2408.15240, equation 4. `verdicts.VotingVerifier` lets it
    think first.
    """

    separator: str | None = None
    QUESTION = "Problem:\n{problem}\n\nSolution:\n{solution}\n\nIs the solution correct? Answer Yes or No."

    def __init__(self, tokenizer: Tokenizer, config: "PretrainedConfig") -> None:
        check_causal(config)
        check_chat(tokenizer)
        self._tokenizer = tokenizer
        self._controls = control_tokens(tokenizer)

    def engine_arguments(self) -> dict[str, Any]:
        return one_against_other(self._tokenizer, "Yes", "No")

    def encode(self, problem: str, steps: Sequence[str]) -> Encoded:
        question = self.QUESTION.format(problem=problem, solution="\n\n".join(steps).strip())
        messages = [{"role": "user", "content": harmless(question, self._controls)}]
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return Encoded(ids, [len(ids) - 1])

    def read(self, logits: Sequence[float]) -> float:
        return sigmoid(logits[0])


def one_against_other(tokenizer: Tokenizer, one: str, other: str) -> dict[str, Any]:
    """Engine arguments that make a causal LM say, at every token, the log-odds of `one` against `other` as next.

    log p(one) - log p(other) = h (w_one - w_other), with h the last hidden state and w the rows of the output head: a
    classifier of one label, whose sigmoid is the softmax over the two. Nothing else of the vocabulary is computed.
    """
    tokens = []
    for text in (other, one):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise ValueError(f"its tokenizer has no token for {text}")
        tokens += tokenizer.convert_ids_to_tokens(ids)
    overrides = {"classifier_from_token": tokens, "method": "from_2_way_softmax"}
    return {"convert": "classify", "hf_overrides": overrides}


def sigmoid(logit: float) -> float:
    """1 / (1 + e^-x), for any float."""
    if logit < 0:
        odds = math.exp(logit)
        return odds / (1 + odds)
    return 1 / (1 + math.exp(-logit))
