"""What a chat template writes around an answer, found by rendering one."""

from dataclasses import dataclass

from openrlhf_math.data.prompts import Tokenizer, chat_text
from openrlhf_math.errors import UserError
from openrlhf_math.modeling.families import ModelConfig

QUESTION, ANSWER = "8765", "4321"


@dataclass(frozen=True, slots=True)
class Frame:
    """before: what it writes between a prompt and an answer without thinking, as an empty thinking part or a space.

    end: what ends a turn. It ends with a token at which engines stop. marks: the control tokens that may end a turn.
    trims: whether it takes the space around an answer away.
    """

    before: str
    end: str
    marks: tuple[str, ...]
    trims: bool


def bare_frame(tokenizer: Tokenizer) -> Frame:
    """Without a chat template, or with one that does not show an answer: the end of sequence ends a turn."""
    eos = _eos(tokenizer)
    return Frame("", eos, (eos,), False)


def _eos(tokenizer: Tokenizer) -> str:
    """The end of sequence. `Renderer` refuses a tokenizer without one."""
    assert tokenizer.eos_token
    return tokenizer.eos_token


def find_frame(tokenizer: Tokenizer, stops: set[int]) -> Frame:
    """The frame of the tokenizer's chat template. stops: tokens at which engines stop.

    A turn ends with the first control token that the template writes behind an answer. Where engines do not stop at it,
    as those of a base model with ChatML, or where there is none, the end of sequence follows.
    """
    whole = _rendered(tokenizer, ANSWER)
    if whole is None or whole.count(ANSWER) != 1:
        return bare_frame(tokenizer)
    head, _, tail = whole.partition(ANSWER)
    prompt = chat_text(tokenizer, [{"role": "user", "content": QUESTION}])
    before = head[len(prompt) :] if head.startswith(prompt) else ""
    end, marks = _end(tokenizer, tail, stops)
    return Frame(before, end, marks, trims=_rendered(tokenizer, f" \n{ANSWER} \n") == whole)


def _end(tokenizer: Tokenizer, tail: str, stops: set[int]) -> tuple[str, tuple[str, ...]]:
    """What ends a turn, and the control tokens in it. tail: what the template writes behind an answer."""
    eos = _eos(tokenizer)
    control = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special} | {eos}
    places = [(tail.index(token), -len(token), token) for token in control if token in tail]
    if not places:
        return eos, (eos,)
    place, _, mark = min(places)
    end = tail[: place + len(mark)]
    stopped = tokenizer.convert_tokens_to_ids(mark) in stops | {tokenizer.eos_token_id}
    return end if stopped else end + eos, tuple({mark, eos})


def _rendered(tokenizer: Tokenizer, answer: str) -> str | None:
    """A conversation of one turn, or None where the template refuses it."""
    from jinja2 import TemplateError

    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer}]
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False)
    except (TemplateError, TypeError):
        return None


def stop_tokens(model: str, config: ModelConfig) -> set[int]:
    """The tokens at which engines stop by the model's files, beside its tokenizer's end of sequence.

    config: the model's. vLLM and Transformers read generation_config.json, and without one config.json.
    """
    from transformers import GenerationConfig

    try:
        found = GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:
        found = getattr(config.get_text_config(), "eos_token_id", None)
    except Exception as error:  # of transformers, for whatever a damaged file holds
        words = " ".join(str(error).split())
        raise UserError(f"{model}: its generation_config.json cannot be read ({words[:200]}); correct it") from None
    return set(found if isinstance(found, list) else [] if found is None else [found])
