"""From conversations to rows of tokens: every turn of the assistant that is to be learned, and nothing else.

A turn is learned behind the very tokens that a model is asked with: the messages before it, rendered as `grpo` and
`eval` render a prompt, with the instruction in the last of them. Turns share a row where the tokens of the next prompt
begin with those of the row so far. Elsewhere, as the template drops earlier thinking or the instruction has moved on,
the next turn begins a new row.

What a template writes around an answer and its thinking, the `Frame`, is found by rendering them.
"""

import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from openrlhf_math.data.chat_date import checked_date
from openrlhf_math.data.chat_template import ANSWER, QUESTION, form_of, prepared, render
from openrlhf_math.data.conversations import BadRow, Turn, split_thinking
from openrlhf_math.data.problems import Problem
from openrlhf_math.data.prompts import (
    Continued,
    Tokenizer,
    chat,
    chat_text,
    check_variables,
    prompt_ids,
    prompt_text,
    with_variables,
)
from openrlhf_math.data.readers import with_think_tags
from openrlhf_math.data.trace import ENDS, TAGS, THINK, find_tags, trace, without_end
from openrlhf_math.errors import UserError
from openrlhf_math.modeling.families import ModelConfig
from openrlhf_math.modeling.model_folder import NO_TEMPLATE, load_tokenizer
from openrlhf_math.modeling.model_kind import check_language_model, read_config, token_error
from openrlhf_math.rewards.thinking import CLOSE, OPEN, PAIRS
from openrlhf_math.rewards.tool_output import output_blocks
from openrlhf_math.sft.settings import SFTRunArguments
from openrlhf_math.training.flag_checks import TEMPLATE_FLAG

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


MODEL_FLAG = "--model.model_name_or_path"
# What is counted while rendering.
KEPT, DROPPED, CLOSED_AT_ONCE, OPENED, MARKED, EMPTY, NOT_LEARNED, LEFT_OUT = (
    "turns with thinking",
    "turns whose thinking is dropped",
    "answers without thinking behind a prompt that begins it: it is closed at once",
    f"responses with {CLOSE} alone: {OPEN} is put in front",
    f"responses with the marks of Sky-T1 and OpenThoughts around their thinking: they become {OPEN} and {CLOSE}",
    "answers without thinking get the empty thinking part that the chat template writes",
    "blocks of the output of code, which are not learned",
    "turns in a separate row: their prompt does not begin with the row before, as the chat template leaves earlier "
    "thinking out or the instruction is in another message",
)

THOUGHT = TAGS["thought"]

Pieces = list[tuple[str, str]]  # of a conversation: each prompt, and what is learned behind it
Spans = list[tuple[int, int]]  # (start, stop) of tokens


@dataclass(frozen=True, slots=True)
class Trace:
    """A row as the model sees it.

    ids: its tokens. learned: what is learned among them, as (start, stop). source, row: of its conversation, counted
    from 1.
    """

    ids: array
    learned: tuple[tuple[int, int], ...]
    source: str
    row: int

    def marked(self, tokenizer: Tokenizer) -> str:
        """Its text, with [[ and ]] around what is learned."""
        text, end = "", 0
        for start, stop in self.learned:
            text += f"{tokenizer.decode(self.ids[end:start])}[[{tokenizer.decode(self.ids[start:stop])}]]"
            end = stop
        return text + tokenizer.decode(self.ids[end:])


class Renderer:
    """counts: how many turns were treated how. chat_date: that the prompts have, None if they have none."""

    def __init__(self, args: SFTRunArguments) -> None:
        """args: the run's settings. Raises UserError if the model or its tokenizer cannot be used."""
        data, model = args.data, args.model.model_name_or_path
        given = data.tokenizer_chat_template
        self.tokenizer = load_tokenizer(MODEL_FLAG, model, data.apply_chat_template and not given, NO_TEMPLATE)
        check_language_model(MODEL_FLAG, model, ask_hub=True)
        self.tokenizer.chat_template = given or self.tokenizer.chat_template
        check_variables(TEMPLATE_FLAG, model, args.math.template_variables, self.tokenizer)
        with_variables(prepared(self.tokenizer) if given else self.tokenizer, args.math.template_variables)
        self.chat_date = checked_date(args.math.chat_date, model, self.tokenizer) if data.apply_chat_template else None
        if not self.tokenizer.eos_token:
            raise UserError(f"{MODEL_FLAG} {model}: its tokenizer has no eos_token, so no answer would end; add one")
        self.counts: Counter[str] = Counter()
        self._args, self._chat = args, data.apply_chat_template
        self._tags = find_tags(args.math.thinking_tags)
        self._token_error = token_error(MODEL_FLAG, model, self.tokenizer)
        self._continued = Continued(MODEL_FLAG, model, self.tokenizer)
        self._frame = bare_frame(self.tokenizer)
        if self._chat:
            self._frame = find_frame(self.tokenizer, stop_tokens(model, read_config(MODEL_FLAG, model)))
        specials = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        written = self._frame.before + (self._frame.thinking.text if self._frame.thinking else "")
        own = self.tokenizer(written, add_special_tokens=False)["input_ids"] if written else []
        self._control = specials - {*self.tokenizer.convert_tokens_to_ids([OPEN, CLOSE]), *own}

    def pieces(self, turns: Sequence[Turn]) -> Pieces:
        """The texts of a conversation, whose last turn is learned. Raises BadRow."""
        counts: Counter[str] = Counter()
        kept = [self._as_kept(turn, number == len(turns), counts) for number, turn in enumerate(turns, start=1)]
        found = []
        for number, turn in enumerate(kept):
            if turn.learned:
                prompt = self._prompt(kept[:number])
                found.append((prompt, self._completion(prompt, turn, counts)))
        self.counts += counts
        return found

    def rows(self, source: str, conversations: Sequence[tuple[int, Pieces]]) -> list[list[Trace] | BadRow]:
        """The rows of each conversation (its row in the set, its texts), or why it has none."""
        prompts = [prompt for _, pieces in conversations for prompt, _ in pieces]
        completions = [text for _, pieces in conversations for _, text in pieces]
        if not prompts:
            return []
        asked = iter(prompt_ids(self.tokenizer, prompts, self._chat))
        completed = iter(self._tokenized(completions))
        end = len(self._continued.ids([self._frame.end])[0])
        found: list[list[Trace] | BadRow] = []
        for row, pieces in conversations:
            turns = [(next(asked), *next(completed)) for _ in pieces]
            fault = next(filter(None, (self._fault_of(before, ids, end) for before, ids, _ in turns)), None)
            found.append(BadRow(fault) if fault else [Trace(*each, source, row) for each in self._joined(turns)])
        return found

    def _tokenized(self, completions: list[str]) -> Iterator[tuple[list[int], Spans]]:
        """The tokens of each completion, and what is learned among them.

        The output of code is tokenized apart from what the model writes around it, as it is when a model runs code.
        """
        parts = [self._parts(text) for text in completions]
        made = iter(self._continued.ids([text for of_one in parts for text, _ in of_one]))
        for of_one in parts:
            ids: list[int] = []
            learned: Spans = []
            for _, is_learned in of_one:
                start = len(ids)
                ids += next(made)
                if is_learned and len(ids) > start:
                    learned.append((start, len(ids)))
            yield ids, learned

    def _parts(self, completion: str) -> list[tuple[str, bool]]:
        """A completion in parts: its texts, and whether each is learned."""
        blocks = output_blocks(completion) if self._args.math.code_output == "mask" else []
        parts, end = [], 0
        for start, stop in blocks:
            parts += [(completion[end:start], True), (completion[start:stop], False)]
            end = stop
        self.counts[NOT_LEARNED] += len(blocks)
        return [*parts, (completion[end:], True)]

    def _fault_of(self, prompt: list[int], completion: list[int], end: int) -> str | None:
        if not prompt:
            return "has an empty prompt"
        if fault := self._token_error(prompt) or self._token_error(completion):
            return f"has a token that cannot be learned: {fault}"
        if inside := self._control.intersection(completion[:-end]):
            return f"has the control token {self.tokenizer.convert_ids_to_tokens(min(inside))} within a response"
        return None

    def _joined(
        self, turns: list[tuple[list[int], list[int], Spans]]
    ) -> list[tuple[array, tuple[tuple[int, int], ...]]]:
        rows: list[tuple[array, tuple[tuple[int, int], ...]]] = []
        ids: list[int] = []
        learned: list[tuple[int, int]] = []
        for prompt, completion, spans in turns:
            if ids and prompt[: len(ids)] != ids:
                rows.append((array("i", ids), tuple(learned)))
                learned = []
                self.counts[LEFT_OUT] += 1
            ids = prompt + completion
            learned += [(len(prompt) + start, len(prompt) + stop) for start, stop in spans]
        return [*rows, (array("i", ids), tuple(learned))]

    def _as_kept(self, turn: Turn, last: bool, counts: Counter) -> Turn:
        """A turn with its thinking, if that is kept, in tags within its content, where templates look for it.

        A system message that asks for the marks of Sky-T1 and OpenThoughts asks for the tags that take their place.
        """
        if turn.role == "system" and self._tags in (THINK, THOUGHT):
            return replace(turn, content=with_think_tags(turn.content))
        if turn.role != "assistant":
            return turn
        content = self._without_end(turn.content)
        if turn.thinking is None:
            is_marked = self._tags == THINK and content.lstrip().startswith(THOUGHT.thinking[0])
            counts[MARKED] += is_marked
            tags = THOUGHT if is_marked else self._tags
            content = trace(content, "", tags) if tags != THINK else content
            counts[OPENED] += CLOSE in content and OPEN not in content
        thinking, answer = split_thinking(Turn(turn.role, content, turn.thinking))
        keep = self._args.math.thinking
        if thinking is not None and (keep == "drop" or (keep == "last" and not last)):
            counts[DROPPED] += 1
            thinking, answer = None, answer.lstrip()
        counts[KEPT] += thinking is not None
        if self._frame.trims:
            answer = answer.rstrip() if thinking is not None else answer.strip()
        return Turn(turn.role, answer if thinking is None else f"{OPEN}{thinking}{CLOSE}{answer}", None, turn.learned)

    def _without_end(self, text: str) -> str:
        """The text without an end of a turn that it has itself; else as it is."""
        bare = text.rstrip()
        left = without_end(bare, (*self._frame.marks, *ENDS))
        return text if left == bare else left

    def _prompt(self, turns: list[Turn]) -> str:
        """What a model is asked with after these turns. Raises BadRow if the template refuses one or leaves it out."""
        data = self._args.data
        if not self._chat and len(turns) > 1:
            raise BadRow("has several messages, which need a chat template")
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            messages = chat(Problem(messages, "", "", 0), self._args.math.instruction)
            prompt = prompt_text(self.tokenizer, messages, self._chat, data.input_template)
        except UserError as error:
            raise BadRow(f"cannot be rendered: {error}") from None
        for turn in turns:
            said = split_thinking(turn)[1] if turn.role == "assistant" else turn.content
            if said.strip() not in prompt:
                raise BadRow(f"has a message of the role '{turn.role}' that the chat template leaves out or changes")
        return prompt

    def _completion(self, prompt: str, turn: Turn, counts: Counter) -> str:
        """What is learned behind a prompt, which may have begun the thinking part, or closed it."""
        thinking, answer = split_thinking(turn)
        frame, before = self._frame, self._frame.before
        if frame.thinking and (inside := frame.thinking.marks_in(thinking or "", answer)):
            raise BadRow(f"has the control token {inside} within a response")
        if self._chat or self._args.data.input_template:
            if opened := frame.opened(prompt):
                closing, space = opened
                counts[CLOSED_AT_ONCE] += thinking is None
                if frame.thinking:
                    return f"{(thinking or '').strip()}{frame.thinking.closing}{answer.lstrip()}{frame.end}"
                if thinking is None:
                    thinking, answer = "\n\n", "\n\n" + answer.lstrip()
                return f"{thinking.removeprefix(space)}{closing}{answer}{frame.end}"
            if frame.closed(prompt):
                if thinking and thinking.strip():
                    raise BadRow("has thinking behind a prompt that closes the thinking part; add --math.thinking drop")
                before = "" if CLOSE in before or frame.closed(before) else before
                return before + (answer if thinking is None else answer.lstrip()) + frame.end
        if thinking is None:
            counts[EMPTY] += CLOSE in before
            return before + answer + frame.end
        if frame.thinking:
            form = frame.thinking
            return f"{form.opening}{thinking.strip()}{form.closing}{answer.lstrip()}{frame.end}"
        if _is_empty_thinking(before):
            before = before.partition(OPEN)[0]
        elif before.strip():
            raise BadRow(f"has thinking, which the chat template writes without {OPEN}; add --math.thinking drop")
        return f"{before}{OPEN}{thinking}{CLOSE}{answer}{frame.end}"


def _is_empty_thinking(text: str) -> bool:
    text = text.strip()
    return text.startswith(OPEN) and text.endswith(CLOSE) and not text[len(OPEN) : -len(CLOSE)].strip()
