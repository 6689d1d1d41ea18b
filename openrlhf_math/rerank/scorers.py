"""Kinds of scorers: how each writes a solution for its model, where it reads, and how logits become a score.

A process reward model takes one forward pass for all steps of a completion. A reward model gives one number for a whole
completion, read where the model's own code reads it. A user's own kind is given as `package.module.Class`.
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.registry import Registry
from openrlhf_math.rerank.aggregate import Logit
from openrlhf_math.rerank.steps import (
    BLANK_LINE,
    LINE_END,
    MARK,
    STEP_TAG,
    SYSTEM_PROMPT,
    Encoded,
    control_tokens,
    encode_continuation,
    encode_marked,
    encode_prm,
    encode_trl,
    harmless,
    split_unchanged,
)
from openrlhf_math.rewards.thinking import OPEN, begins_thinking

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class ScorerKind(Protocol):
    """separator: what separates steps, unless the settings say otherwise; None where a completion is judged as a
    whole and has one score."""

    separator: str | None

    def __init__(self, tokenizer: Tokenizer, config: "PretrainedConfig") -> None:
        """tokenizer, config: the model's, from transformers. Raises ValueError, a sentence, if it is not such a model.

        A kind may also have `split`, from a completion to its steps; those of others are `steps.split_steps`. A
        causal language model may have `read_log_probs`, from the log-probabilities of the tokens of each step to the
        scores; it is used instead of `read`.
        """

    def engine_arguments(self) -> dict[str, Any]:
        """Of vLLM's engine: they make the model classify tokens. `pooler_config` is a dict of PoolerConfig's fields."""

    def encode(self, problem: str, steps: Sequence[str]) -> Encoded:
        """steps: at least one, none of them empty unless `split` gives such; a completion that is judged as a whole is
        one, as it is. One position for each is read."""

    def read(self, logits: Sequence[float]) -> float:
        """The score at a position, higher is better: a probability, or an `aggregate.Logit`. NaN stays NaN."""


SCORERS: Registry[type[ScorerKind]] = Registry()
register_scorer = SCORERS.register  # of a class


def find_scorer(name: str) -> type[ScorerKind]:
    """A known kind, or a user's own by dotted path. Raises UserError if there is none."""
    return SCORERS.find("--scorer", name)


def check_architecture(config: "PretrainedConfig", wanted: str) -> None:
    if wanted not in (config.architectures or ()):
        raise ValueError(f"it is a {architecture(config)}, not a {wanted}")


def check_labels(config: "PretrainedConfig", wanted: int) -> None:
    """Raises ValueError for a head of another size."""
    labels = getattr(config, "num_labels", wanted)
    if labels != wanted:
        raise ValueError(f"its head has {labels} labels, such a scorer has {wanted}")


def step_separator(config: "PretrainedConfig") -> str | None:
    """What the steps of a token classifier end with, as its config.json names it; None if it does not.

    Raises ValueError if that is not text.
    """
    separator = getattr(config, "step_separator", None)
    if separator is not None and (not isinstance(separator, str) or not separator):
        raise ValueError(f"the step_separator in its config.json is {separator!r:.40}, it must be a text")
    return separator


def causal_architecture(config: "PretrainedConfig") -> str:
    """The causal language model that a classifier is made of. Raises ValueError if it is of none."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type, "")
    if not name.endswith("ForCausalLM"):
        raise ValueError(f"it is a {architecture(config)}, and {config.model_type} is not a causal language model")
    return name


def check_causal(config: "PretrainedConfig") -> None:
    if not architecture(config).endswith("ForCausalLM"):
        raise ValueError(f"it is a {architecture(config)}, not a causal language model")


def architecture(config: "PretrainedConfig") -> str:
    return (config.architectures or ["model without an architecture"])[0]


def check_chat(tokenizer: Tokenizer) -> None:
    if not tokenizer.chat_template:
        raise ValueError("its tokenizer has no chat template")


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
    chat = text.chat(problem, solution) if text.tokenizer.chat_template else f"{problem}\n{solution}"
    chat = chat.rstrip("\n")
    if not chat.endswith(eos):
        chat += " " + eos
    return _at_the_end(text.ids(chat))


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


class CausalChat:
    """What kinds share that read a causal language model with a chat template."""

    def __init__(self, tokenizer: Tokenizer, config: "PretrainedConfig") -> None:
        check_causal(config)
        check_chat(tokenizer)
        self._tokenizer = tokenizer
        self._controls = control_tokens(tokenizer)


@register_scorer("rlhflow-prm")
class RLHFlowPRM(CausalChat):
    """A chat in which every step is a user's turn, answered with `+` or `-`. https://arxiv.org/abs/2405.07863

    https://github.com/RLHFlow/RLHF-Reward-Modeling, math-rm: the problem is before the first step, and every turn
    before the one that is read is answered with `+`.
    """

    separator: str | None = BLANK_LINE

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
class Verifier(CausalChat):
    """A chat model that is asked whether the solution is right: the probability that it begins with Yes and not No.

    GenRM without a chain of thought, https://arxiv.org/abs/2408.15240, equation 4. `verdicts.VotingVerifier` lets it
    think first.
    """

    separator: str | None = None
    QUESTION = "Problem:\n{problem}\n\nSolution:\n{solution}\n\nIs the solution correct? Answer Yes or No."

    def __init__(self, tokenizer: Tokenizer, config: "PretrainedConfig") -> None:
        super().__init__(tokenizer, config)
        if begins_thinking(self._text("1+1?", ["2"])):
            raise ValueError(
                "its chat template begins the thinking part, where no Yes or No is read; take --scorer verdict, which "
                "lets it think"
            )

    def engine_arguments(self) -> dict[str, Any]:
        return one_against_other(self._tokenizer, "Yes", "No")

    def encode(self, problem: str, steps: Sequence[str]) -> Encoded:
        ids = self._tokenizer(self._text(problem, steps), add_special_tokens=False, verbose=False)["input_ids"]
        return Encoded(ids, [len(ids) - 1])

    def _text(self, problem: str, steps: Sequence[str]) -> str:
        question = self.QUESTION.format(problem=problem, solution="\n\n".join(steps).strip())
        messages = [{"role": "user", "content": harmless(question, self._controls)}]
        return self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def read(self, logits: Sequence[float]) -> float:
        return sigmoid(logits[0])


@register_scorer("likelihood")
class Likelihood(CausalChat):
    """How likely a causal language model finds the steps so far: the sum, over steps, of the mean log-probability of a
    step's tokens, in nats.

    The implicit process reward of https://arxiv.org/abs/2412.01981 without its reference model, and with a mean over
    the step's tokens instead of a sum, so that a longer step does not score lower. The model needs no training for
    it, but it must know more than the one that is judged.
    """

    separator: str | None = BLANK_LINE

    def engine_arguments(self) -> dict[str, Any]:
        return {}

    def split(self, response: str) -> list[str]:
        return split_unchanged(response, self.separator or BLANK_LINE)

    def encode(self, problem: str, steps: Sequence[str]) -> Encoded:
        """The problem as a user's turn, then the steps as the model would have written them."""
        messages = [{"role": "user", "content": harmless(problem, self._controls)}]
        prompt = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        written = [harmless(step, self._controls) for step in steps]
        if begins_thinking(prompt):
            written[0] = written[0].lstrip().removeprefix(OPEN).lstrip("\n")
        return encode_continuation(self._tokenizer, prompt, written)

    def read(self, logits: Sequence[float]) -> float:
        """logits: the log-probabilities of one step's tokens. A step without any adds nothing."""
        return Logit(math.fsum(logits) / len(logits) if logits else 0.0)

    def read_log_probs(self, steps: Sequence[Sequence[float]]) -> list[float]:
        return list(map(Logit, accumulate(map(self.read, steps))))


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
