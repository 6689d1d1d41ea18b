"""Forms of a process reward model: which class it is, how a solution is written for it, and which scorer reads it.

Nothing here imports torch before a model is loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from openrlhf_math.data.prompts import Tokenizer, chat_text
from openrlhf_math.errors import UserError
from openrlhf_math.modeling.families import code_names
from openrlhf_math.modeling.model_folder import load_tokenizer
from openrlhf_math.modeling.model_kind import read_config
from openrlhf_math.rerank.scorers import architecture, causal_architecture, check_labels, step_separator
from openrlhf_math.rerank.steps import LINE_END, Encoded, encode_prm, encode_trl, split_steps
from openrlhf_math.sft.inputs import MODEL_FLAG

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

QWEN, TRL = "qwen2.5-math-prm", "trl-prm"
SCORERS = (QWEN, TRL)
# Transformers' token classifiers with this base class have their head under the name that vLLM loads, `score`.
CLASSIFIER = "GenericForTokenClassification"


class Form(Protocol):
    """scorer: the kind of scorer that reads the model. separator: what ends a step of the text; None for a tag."""

    @property
    def scorer(self) -> str: ...

    @property
    def separator(self) -> str | None: ...

    def tokenizer(self, model: str) -> Tokenizer:
        """Of a base model, with what the form needs. Raises UserError if it cannot be used."""

    def prepare(self, tokenizer: Tokenizer, model: "PreTrainedModel | None") -> None:
        """Give a tokenizer and a model what the form needs."""

    def encode(self, tokenizer: Tokenizer, problem: str, steps: Sequence[str]) -> Encoded:
        """As the scorer does."""

    def fault(self, steps: Sequence[str]) -> str | None:
        """Why the scorer would find other steps in the solution; None if it finds these."""

    def architecture(self, model: str) -> "type[PreTrainedModel]":
        """Transformers' class of the whole model."""

    def load(self, model: str, **options: Any) -> "PreTrainedModel":
        """The model with its head, a new one if it has none. options: of `from_pretrained`."""


@dataclass(frozen=True)
class QwenMathForm:
    """Qwen2.5-Math-PRM: a Qwen2 with a head of two layers, read at a tag behind every step."""

    scorer: ClassVar[str] = QWEN
    separator: ClassVar[None] = None

    def tokenizer(self, model: str) -> Tokenizer:
        tokenizer = load_tokenizer(MODEL_FLAG, model, True, "choose a chat model")
        try:
            chat_text(tokenizer, [{"role": role, "content": "1 + 1"} for role in ("system", "user", "assistant")])
        except UserError as error:
            raise UserError(f"{MODEL_FLAG} {model}: {error}; choose a chat model") from None
        if not tokenizer.is_fast:
            raise UserError(f"{MODEL_FLAG} {model}: its tokenizer is not a fast one; save it with a tokenizer.json")
        self.prepare(tokenizer, None)
        return tokenizer

    def prepare(self, tokenizer: Tokenizer, model: "PreTrainedModel | None") -> None:
        from openrlhf_math.prm.model import add_step_tag

        add_step_tag(tokenizer, model)

    def encode(self, tokenizer: Tokenizer, problem: str, steps: Sequence[str]) -> Encoded:
        return encode_prm(tokenizer, problem, steps)

    def fault(self, steps: Sequence[str]) -> str | None:
        return None  # any text may be between its steps

    def architecture(self, model: str) -> "type[PreTrainedModel]":
        from openrlhf_math.prm.model import Qwen2ForProcessRewardModel

        return Qwen2ForProcessRewardModel

    def load(self, model: str, **options: Any) -> "PreTrainedModel":
        return self.architecture(model).from_pretrained(model, **options)


@dataclass(frozen=True)
class TokenClassifierForm:
    """A token classifier of two labels, as TRL's PRMTrainer trains it: read at the end of every step."""

    scorer: ClassVar[str] = TRL
    separator: str = LINE_END

    def tokenizer(self, model: str) -> Tokenizer:
        return load_tokenizer(MODEL_FLAG, model, False, "")

    def prepare(self, tokenizer: Tokenizer, model: "PreTrainedModel | None") -> None:
        """The scorer finds the separator in config.json."""
        if model is not None:
            model.config.step_separator = self.separator

    def encode(self, tokenizer: Tokenizer, problem: str, steps: Sequence[str]) -> Encoded:
        return encode_trl(tokenizer, problem, steps, self.separator)

    def fault(self, steps: Sequence[str]) -> str | None:
        found = split_steps(self.separator.join(steps), self.separator)
        if found == [step.strip() for step in steps]:
            return None
        return (
            f"its {len(steps)} steps would be scored as {len(found)}, as text within them separates steps; give "
            f"another --math.separator than {self.separator!r}"
        )

    def architecture(self, model: str) -> "type[PreTrainedModel]":
        import transformers

        return getattr(transformers, _classifier_of(read_config(MODEL_FLAG, model)))

    def load(self, model: str, **options: Any) -> "PreTrainedModel":
        from openrlhf_math.prm.model import LABELS, Float32Linear

        made = self.architecture(model).from_pretrained(model, num_labels=LABELS, **options)
        made.score = Float32Linear.over(made.score)
        return made


def find_form(model: str, scorer: str | None, separator: str | None) -> Form:
    """model: directory or hub name of the base. scorer: one of SCORERS, or None for the base's own. separator: None for
    the base's own, or a line's end. Raises UserError for a base that cannot be of this form."""
    config = read_config(MODEL_FLAG, model)
    kind = config.model_type
    if (scorer or _scorer_of(config)) == QWEN:
        if kind != "qwen2":
            raise UserError(
                f"--math.scorer {QWEN}: {MODEL_FLAG} {model} is a {kind}, and vLLM serves process reward models of "
                f"this form over Qwen2 alone; give --math.scorer {TRL}"
            )
        if separator is not None:
            raise UserError(f"--math.separator has no meaning for a {QWEN}, whose steps end with a tag; leave it out")
        return QwenMathForm()
    _check_classifiable(model, config)
    return TokenClassifierForm(separator or step_separator(config) or LINE_END)


def _scorer_of(config: "PretrainedConfig") -> str:
    return QWEN if config.model_type == "qwen2" and architecture(config) != _classifier_of(config) else TRL


def _classifier_of(config: "PretrainedConfig") -> str:
    """Transformers' token classifier over the family of a model, "" if there is none that vLLM loads."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES

    try:
        causal_architecture(config)
    except ValueError:
        return ""
    generic = not hasattr(config, "vision_config") and code_names(config, (CLASSIFIER,))
    return MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES.get(config.model_type, "") if generic else ""


def _check_classifiable(model: str, config: "PretrainedConfig") -> None:
    """Raise UserError unless a model can become a token classifier of two labels that vLLM loads."""
    classifier, name = _classifier_of(config), architecture(config)
    if not classifier:
        raise UserError(
            f"{MODEL_FLAG} {model} is a {config.model_type}: Transformers has no token classifier over this family "
            "that vLLM loads; choose a model of another, such as Llama, Mistral, Qwen3 or Gemma 2"
        )
    if name not in (classifier, causal_architecture(config)):
        raise UserError(
            f"{MODEL_FLAG} {model} is a {name}; choose a causal language model, or a token classifier of two labels"
        )
    try:
        step_separator(config)
        if name == classifier:
            check_labels(config, 2)
    except ValueError as error:
        raise UserError(f"{MODEL_FLAG} {model}: {error}; choose another model") from None
