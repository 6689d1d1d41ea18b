"""Reward models: one number for a whole completion, read where the model's own code reads it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.rerank.aggregate import Logit
from openrlhf_math.rerank.encoding import Encoded, control_tokens, harmless
from openrlhf_math.rerank.scorer_kind import architecture, causal_architecture, check_labels
from openrlhf_math.rerank.steps import SYSTEM_PROMPT

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class _Text:
    """A problem and a solution as a chat, and the chat as tokens."""

    def __init__(self, tokenizer: Tokenizer, config: "PretrainedConfig") -> None:
        self.tokenizer, self.config = tokenizer, config

    def chat(self, problem: str, solution: str, system: str = "") -> str:
        messages = [{"role": "user", "content": problem}, {"role": "assistant", "content": solution}]
        if system:
            messages = [{"role": "system", "content": system}, *messages]
        return self.tokenizer.apply_chat_template(messages, tokenize=False)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def _of_openrlhf(text: _Text, problem: str, solution: str) -> Encoded:
    """OpenRLHF's RewardDataset: the chat, or two lines, then the end of sequence, where the score is read."""
    eos = text.tokenizer.eos_token or ""
    whole = text.chat(problem, solution) if text.tokenizer.chat_template else f"{problem}\n{solution}"
    whole = whole.rstrip("\n")
    if not whole.endswith(eos):
        whole += " " + eos
    return _at_the_end(text.ids(whole))


def _of_transformers(text: _Text, problem: str, solution: str) -> Encoded:
    """Cards of sequence classifiers, such as https://huggingface.co/Skywork/Skywork-Reward-V2-Qwen3-8B: the chat as the
    template writes it, read as transformers' GenericForSequenceClassification does, at the last token that is not
    padding. With ChatML that is the line's end behind the turn."""
    if not text.tokenizer.chat_template:
        return _of_openrlhf(text, problem, solution)
    ids = text.ids(text.chat(problem, solution))
    padding = getattr(text.config, "pad_token_id", None)
    read = max((place for place, token in enumerate(ids) if token != padding), default=0)
    return Encoded(ids, [read])


def _of_qwen_math(text: _Text, problem: str, solution: str) -> Encoded:
    """https://huggingface.co/Qwen/Qwen2.5-Math-RM-72B, "Quick Start": read at the last token."""
    return _at_the_end(text.ids(text.chat(problem, solution, SYSTEM_PROMPT)))


def _of_internlm2(text: _Text, problem: str, solution: str) -> Encoded:
    """https://huggingface.co/internlm/internlm2-7b-reward, get_score: read at a special token after the chat."""
    ids, end = text.ids(text.chat(problem, solution)), text.config.reward_token_id
    return _at_the_end(ids if ids[-1:] == [end] else [*ids, end])


def _at_the_end(ids: list[int]) -> Encoded:
    return Encoded(ids, [len(ids) - 1])


# By architecture; all others are `_of_transformers`.
FORMS: dict[str, Callable[[_Text, str, str], Encoded]] = {
    "RewardModel": _of_openrlhf,
    "Qwen2ForRewardModel": _of_qwen_math,
    "InternLM2ForRewardModel": _of_internlm2,
}
SERVED = ("Qwen2ForRewardModel", "InternLM2ForRewardModel")  # by vLLM as they are


class RewardModel:
    """A model with one number for a completion: what OpenRLHF's `train_rm` saves, a sequence classifier of one label,
    Qwen2.5-Math-RM, or InternLM2-Reward. The score is its logit."""

    separator: str | None = None

    def __init__(self, tokenizer: Tokenizer, config: "PretrainedConfig") -> None:
        name = architecture(config)
        if name not in FORMS and not name.endswith("ForSequenceClassification"):
            raise ValueError(f"it is a {name}, not a reward model")
        prefix = getattr(config, "value_head_prefix", "score")
        if prefix != "score":
            raise ValueError(f"its head is called {prefix}; train it with --ds.value_head_prefix score")
        if not tokenizer.eos_token:
            raise ValueError("its tokenizer has no end-of-sequence token, at which a reward model is read")
        if name in SERVED and not tokenizer.chat_template:
            raise ValueError("its tokenizer has no chat template")
        if name not in FORMS:
            check_labels(config, 1)
        self._name, self._config, self._text = name, config, _Text(tokenizer, config)
        self._controls = control_tokens(tokenizer)

    def engine_arguments(self) -> dict[str, object]:
        if self._name in SERVED:
            return {}
        overrides: dict[str, object] = {"num_labels": 1}
        if self._name == "RewardModel":
            overrides["architectures"] = [causal_architecture(self._config)]
        normalised = getattr(self._config, "normalize_reward", False) and hasattr(self._config, "mean")
        return {
            "convert": "classify",
            "hf_overrides": overrides,
            "pooler_config": {"logit_mean": self._config.mean, "logit_sigma": self._config.std} if normalised else {},
        }

    def encode(self, problem: str, steps: Sequence[str]) -> Encoded:
        problem, solution = (harmless(text, self._controls) for text in (problem, "\n\n".join(steps)))
        return FORMS.get(self._name, _of_transformers)(self._text, problem, solution)

    def read(self, logits: Sequence[float]) -> float:
        return Logit(logits[0])
