r"""From a problem to a prompt: the text, and the tokens a model sees. Training and evaluation share it.

With a chat template the text is what the template renders, and its tokens are those of the text: a template writes the
first token (BOS) itself. Without one the tokenizer's own first tokens are put in front, once. Nothing is ever added
behind a prompt: some tokenizers would add the end of sequence there.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from openrlhf_math.data.chat_template import apart
from openrlhf_math.data.problems import Problem
from openrlhf_math.errors import UserError

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."


Messages = list[dict[str, str]]


class Tokenizer(Protocol):
    """What this package uses of a tokenizer of Transformers."""

    eos_token: str | None
    eos_token_id: int | None
    bos_token: str | None
    bos_token_id: int | None
    pad_token_id: int | None
    all_special_tokens: list[str]
    added_tokens_decoder: dict[int, Any]
    is_fast: bool
    chat_template: Any

    def __len__(self) -> int: ...

    def __call__(self, text: Any, *, add_special_tokens: bool = True, **options: Any) -> Any: ...

    def decode(self, token_ids: Any, **options: Any) -> str: ...

    def batch_decode(self, sequences: Any, **options: Any) -> list[str]: ...

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...

    def get_chat_template(self) -> str: ...

    def convert_tokens_to_ids(self, tokens: Any) -> Any: ...

    def convert_ids_to_tokens(self, ids: Any) -> Any: ...

    def get_vocab(self) -> dict[str, int]: ...

    def get_added_vocab(self) -> dict[str, int]: ...

    def add_tokens(self, new_tokens: list[str], special_tokens: bool = False) -> int: ...

    def save_pretrained(self, save_directory: Any) -> Any: ...


PLACEHOLDER = "{}"
# Transformers' own tag, which marks the assistant's turns, is not a tag of Jinja's.
GENERATION = re.compile(r"\{%-?\s{0,9}(?:end)?generation\s{0,9}-?%\}")
# What a template may take from a message: space, and the switches of thinking (Nemotron's).
TRIMMED = re.compile(r"\s+|/(?:no_)?think\b")
PLACES = re.compile(re.escape(PLACEHOLDER))
# A LaTeX command with its arguments, as in \boxed{} or \frac{1}{}; \n{} is a line break that a shell did not read.
LATEX = re.compile(r"\\[A-Za-z]{2,}\*?(?:\[[^\[\]]*\])?(?:\{[^{}]*\})+")


def chat(problem: Problem, instruction: str) -> Messages:
    """The problem as chat messages, the instruction at the end of the last."""
    messages = problem.problem if isinstance(problem.problem, list) else [{"role": "user", "content": problem.problem}]
    *before, last = messages
    return [*before, {**last, "content": with_instruction(last["content"], instruction)}]


def with_instruction(text: str, instruction: str) -> str:
    """The text with the instruction behind it, once: a text that ends with it stays as it is."""
    if not instruction or text.rstrip().endswith(instruction.strip()):
        return text
    return f"{text}\n{instruction}"


def chat_text(
    tokenizer: Tokenizer,
    messages: Sequence[dict[str, str]],
    variables: Mapping[str, object] | None = None,
    tools: list[dict] | None = None,
) -> str:
    """What the tokenizer's chat template makes of the messages, up to where the model begins to write.

    variables: of the template, such as `enable_thinking`. One that it does not know has no effect. tools: that the
    template presents to the model. Thinking of earlier turns is handed to it as it takes it, see `apart`.
    Raises UserError if the template refuses them: some know no system role; and if it leaves out the last.
    """
    from jinja2 import TemplateError

    variables = variables or {}
    taken = sorted(variables.keys() & inspect.signature(tokenizer.apply_chat_template).parameters.keys())
    if taken:
        raise UserError(f"chat_template_kwargs: {taken[0]} is not a variable of a chat template; leave it out")
    kinds: tuple[type[Exception], ...] = (TemplateError, TypeError)  # the second where a message has no text
    if variables:
        kinds = (Exception,)
    more = {**variables, **({"tools": tools} if tools else {})}
    try:
        messages = apart(tokenizer, messages)
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **more)
    except kinds as error:
        raise UserError(f"the model's chat template refuses the messages ({str(error).strip()})") from None
    asked = messages[-1].get("content")
    if isinstance(asked, str) and TRIMMED.sub("", asked) not in TRIMMED.sub("", text):
        raise UserError(
            f"the model's chat template leaves out the last message, or a part of it: {asked.strip()!r:.60}"
        )
    return text


def with_variables(tokenizer: Tokenizer, variables: Mapping[str, object]) -> Tokenizer:
    """The tokenizer, whose chat template gets these variables in every rendering."""
    if variables:
        render = partial(tokenizer.apply_chat_template, **dict[str, Any](variables))
        tokenizer.apply_chat_template = render  # type: ignore[method-assign]  # every user of this tokenizer renders so
    return tokenizer


def check_variables(flag: str, model: str, variables: Mapping[str, object], tokenizer: Tokenizer) -> None:
    """Raises UserError for a variable that the model's chat template does not read: it would do nothing."""
    known = template_variables(tokenizer) if variables else []
    for name in variables:
        if name not in known:
            others = f"only {', '.join(known)}" if known else "and no other variable; leave it out"
            raise UserError(f"{flag}: the chat template of {model} reads no {name}, {others}")


def template_variables(tokenizer: Tokenizer) -> list[str]:
    """What a chat template reads besides the messages, sorted."""
    from jinja2 import meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    found = meta.find_undeclared_variables(environment.parse(GENERATION.sub("", tokenizer.get_chat_template())))
    ours = ("messages", "add_generation_prompt", "tools", "documents", "raise_exception", "strftime_now")
    return sorted(name for name in found if name not in ours)


def prompt_text(
    tokenizer: Tokenizer,
    messages: Messages,
    chat_template: bool,
    template: str | None = None,
    tools: list[dict] | None = None,
) -> str:
    """The text of a prompt: rendered by the chat template, or without one the last message, put into `template`."""
    return chat_text(tokenizer, messages, tools=tools) if chat_template else fill(template, messages[-1]["content"])


def check_template(flag: str, template: str | None, chat_template: bool) -> None:
    """Raise UserError unless the template, if there is one, has exactly one placeholder and is used.

    chat_template: whether prompts are rendered by the tokenizer's.
    """
    if template is not None and chat_template:
        raise UserError(f"{flag} {template!r} is for prompts without a chat template; leave one of the two out")
    if template is not None and len(found := _placeholders(template)) != 1:
        raise UserError(
            f"{flag} {template!r} has {len(found) or 'no'} placeholders {PLACEHOLDER} (LaTeX's, as in \\boxed{{}}, do "
            "not count); write exactly one, for the problem"
        )


def fill(template: str | None, text: str) -> str:
    """The template with the text at its placeholder; all else of both is literal. None: the bare text."""
    if template is None:
        return text
    (place,) = _placeholders(template)
    return template[:place] + text + template[place + len(PLACEHOLDER) :]


def _placeholders(template: str) -> list[int]:
    """Where the placeholders are, arguments of LaTeX commands aside."""
    latex = [match.span() for match in LATEX.finditer(template)]
    places = [match.start() for match in PLACES.finditer(template)]
    return [place for place in places if not any(start < place < end for start, end in latex)]


def prompt_ids(tokenizer: Tokenizer, texts: list[str], chat_template: bool) -> list[list[int]]:
    """The tokens of prompts. chat_template: whether the texts were rendered by one.

    Without, the tokenizer's first tokens are in front, unless the text itself begins with them.
    """
    all_ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    if chat_template:
        return all_ids
    first = first_tokens(tokenizer)
    return [ids if ids[: len(first)] == first else first + ids for ids in all_ids]


def first_tokens(tokenizer: Tokenizer) -> list[int]:
    """What the tokenizer puts in front of a text: BOS for most that have one, nothing for others."""
    bare, with_special = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    starts = [start for start in range(len(with_special)) if with_special[start : start + len(bare)] == bare]
    return with_special[: starts[0]]


def with_first_text(tokenizer: Tokenizer, text: str) -> str:
    """A prompt that was not rendered by a chat template, for code that tokenizes it without special tokens.

    Raises ValueError if no text has the tokens of `prompt_ids`: a tokenizer may treat a text behind BOS otherwise.
    """
    (wanted,) = prompt_ids(tokenizer, [text], chat_template=False)
    prefixed = tokenizer.decode(first_tokens(tokenizer)) + text
    for one in (text, prefixed):
        if tokenizer(one, add_special_tokens=False)["input_ids"] == wanted:
            return one
    raise ValueError(
        "--no-data.apply_chat_template: the tokenizer's first token cannot be written in front of a prompt's text, as "
        "an executor of OpenRLHF's needs it; subclass openrlhf_math.grpo.executor.AgentExecutor instead"
    )


class Continued:
    """Tokens of texts that continue others, such as an answer behind its prompt: no space is put in front.

    SentencePiece's tokenizers put one in front of a text, some in front of each piece between control tokens. Such a
    text is tokenized behind another, whose tokens are then taken off.
    """

    def __init__(self, flag: str, model: str, tokenizer: Tokenizer) -> None:
        """flag, model: of the tokenizer, for messages. Raises UserError if it puts a space in front of all texts."""
        self._tokenizer = tokenizer
        anchors = ["", tokenizer.eos_token or "", "\n"]
        right = [sum(self._is_exact(anchor, text) for text in ("7", "\n7", " 7")) for anchor in anchors]
        self._anchor = anchors[right.index(max(right))]
        if not self._is_exact(self._anchor, "7"):
            raise UserError(f"{flag} {model}: its tokenizer puts a space in front of every text, so no text can be "
                            "continued exactly; use a tokenizer without it")  # fmt: skip

    def ids(self, texts: list[str]) -> list[list[int]]:
        return self._behind(self._anchor, texts)

    def _behind(self, anchor: str, texts: list[str]) -> list[list[int]]:
        if not anchor:
            return self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        start = len(self._tokenizer(anchor, add_special_tokens=False)["input_ids"])
        anchored = self._tokenizer([anchor + text for text in texts], add_special_tokens=False)["input_ids"]
        return [ids[start:] for ids in anchored]

    def _is_exact(self, anchor: str, text: str) -> bool:
        """Whether the text is what is read behind another: "0" here."""
        before = self._tokenizer("0", add_special_tokens=False)["input_ids"]
        (ids,) = self._behind(anchor, [text])
        read = [self._tokenizer.decode(part, clean_up_tokenization_spaces=False) for part in (before, before + ids)]
        return read[1] == read[0] + text
