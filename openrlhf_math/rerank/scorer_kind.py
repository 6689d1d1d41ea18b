"""What a kind of scorer is, and by what names kinds are found; a user's own is given as `package.module.Class`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.registry import Registry
from openrlhf_math.rerank.encoding import Encoded

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class ScorerKind(Protocol):
    """separator: what separates steps, unless the settings say otherwise; None where a completion is judged as a
    whole and has one score."""

    separator: str | None

    def __init__(self, tokenizer: Tokenizer, config: "PretrainedConfig") -> None:
        """tokenizer, config: the model's, from transformers. Raises ValueError, a sentence, if it is not such a model.

        A kind may also have `split`, from a completion to its steps; those of others are `steps.split_steps`.
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

    Raises ValueError if that is no text.
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
