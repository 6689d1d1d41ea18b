"""What a chat template writes around an answer and its thinking, found by rendering them."""

import os
import re
from dataclasses import dataclass

from openrlhf_math.data.chat_template import ANSWER, QUESTION, form_of, render
from openrlhf_math.data.prompts import Tokenizer, chat_text
from openrlhf_math.errors import UserError
from openrlhf_math.modeling.families import ModelConfig
from openrlhf_math.rewards.thinking import CLOSE, PAIRS

_CONTROL = re.compile(r"<[^<>\s]+>|\[[A-Z_/ ]+\]")
_MARK = re.compile(r"<[^<>]+>|\[[^\[\]]+\]")
# The mark at the end, or two with a name in between, as <|channel|>analysis<|message|>.
_LAST_MARKS = re.compile(r"(?:<[^<>\s]+>[^<>\s]{0,20})?(?:<[^<>\s]+>|\[[A-Z_/ ]+\])\Z")


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a template with a special form writes thinking: opening, the thinking, closing, the answer.

    opening: what is missing of it in the prompt, "" where the prompt has opened it.
    """

    opening: str
    closing: str

    @property
    def text(self) -> str:
        return self.opening + self.closing

    def marks_in(self, *texts: str) -> str | None:
        """A mark of this form that one of the texts has itself: it would end the thinking or the answer there."""
        return next((mark for mark in _CONTROL.findall(self.text) for text in texts if mark in text), None)


@dataclass(frozen=True, slots=True)
class Frame:
    """before: what it writes between a prompt and an answer without thinking, as an empty thinking part or a space.

    end: what ends a turn. It ends with a token at which engines stop. marks: the control tokens that may end a turn.
    trims: whether it takes the space around an answer away. thinking: None where it has no special form.
    pairs: texts at the end of a prompt that open thinking, with those that close it.
    """

    before: str
    end: str
    marks: tuple[str, ...]
    trims: bool
    thinking: Thinking | None = None
    pairs: tuple[tuple[str, str], ...] = PAIRS

    def opened(self, prompt: str) -> tuple[str, str] | None:
        """What closes the thinking that a prompt has opened, and the space behind its opening; None if it has not."""
        begun = prompt.rstrip()
        closing = next((closing for opening, closing in self.pairs if begun.endswith(opening)), None)
        return None if closing is None else (closing, prompt[len(begun) :])

    def closed(self, prompt: str) -> bool:
        """Whether a prompt has closed the thinking part."""
        return prompt.rstrip().endswith(tuple(closing for _, closing in self.pairs))


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
    rendered = _rendered(tokenizer, ANSWER)
    if rendered is None or rendered.count(ANSWER) != 1:
        return bare_frame(tokenizer)
    head, _, tail = rendered.partition(ANSWER)
    prompt = chat_text(tokenizer, [{"role": "user", "content": QUESTION}])
    thinking, pairs = _thinking(tokenizer, prompt)
    end, marks = _end(tokenizer, tail, stops)
    trims = _rendered(tokenizer, f" \n{ANSWER} \n") == rendered
    return Frame(_before(head, prompt), end, marks, trims, thinking, (*pairs, *PAIRS))


def _before(head: str, prompt: str) -> str:
    """What is between the prompt and an answer, which has `head` in front.

    A prompt may have more than the template writes in front of an answer: a thinking part that is opened or empty.
    What it has itself is not written again.
    """
    shared = _shared(head, prompt)
    before, more = head[shared:], prompt[shared:]
    return "" if more and before.strip() in more else before


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike. A mark of which only the beginning is the same is not shared."""
    shared = len(os.path.commonprefix([one, other]))
    cut = (mark.start() for mark in _CONTROL.finditer(one) if mark.start() < shared < mark.end())
    return shared if shared in (len(one), len(other)) else next(cut, shared)


def _thinking(tokenizer: Tokenizer, prompt: str) -> tuple[Thinking | None, tuple[tuple[str, str], ...]]:
    """The template's form of thinking, and the pair of texts by which a prompt shows that it has opened or closed it.

    prompt: of a question alone.
    """
    form = form_of(tokenizer)
    if form is None or not form.shown or CLOSE in form.closing:  # with the usual tags a row's own text is learned
        return None, ()
    shared = _shared(form.head, prompt)
    opening, more = form.head[shared:], prompt[shared:]
    closes = _MARK.match(form.closing.lstrip())
    mark = closes[0] if closes else form.closing.strip()
    if more.strip() and not opening and mark not in more:  # words with which the prompt begins the thinking
        begins = more.strip()
    else:
        last = _LAST_MARKS.search(form.head.rstrip())
        begins = last[0] if last else ""
    return Thinking(opening, form.closing), ((begins, mark),) if begins else ()


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
    return render(tokenizer, {"role": "assistant", "content": answer})


def stop_tokens(model: str, config: ModelConfig) -> set[int]:
    """The tokens at which engines stop by the model's files, in addition to its tokenizer's end of sequence.

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
