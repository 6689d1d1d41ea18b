"""Rows of conversations as people store them, read into turns.

Layouts: a prompt and its response in two columns, each a text or messages; or a whole conversation in one column, of
messages (role and content) or in ShareGPT's form (from and value), with or without a column `system`.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from openrlhf_math.data.chat_template import FIELDS
from openrlhf_math.data.columns import MISSING, NOT_JSON, PYTHON_TURNS, look
from openrlhf_math.data.readers import without_answer_tags, without_instruction
from openrlhf_math.data.schema import text_error
from openrlhf_math.data.sources import SOURCES, recognise
from openrlhf_math.errors import UserError
from openrlhf_math.rewards.thinking import CLOSE, OPEN

USUAL = ("problem", "response")
PROMPTS = ("problem", "question", "prompt", "input")
RESPONSES = ("response", "completion", "output", "generated_solution", "trace")
WHOLE = ("messages", "conversations", "conversation")
ROLES = {role: role for role in ("system", "developer", "user", "assistant")}
ROLES |= {"human": "user"} | dict.fromkeys(("gpt", "chatgpt", "model", "bing", "bard"), "assistant")
JSON_TURNS = re.compile(r"\A\s{0,99}(?:\[\s{0,99})?\{")
# Of OpenMathReasoning's splits.
NO_TRACES = {"tir": "which runs code", "genselect": "which chooses among other solutions"}


class BadRow(ValueError):
    """A row that cannot be learned from. The message says why, as the end of a sentence about the row."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A message. thinking: what it holds apart from the content, or None. learned: whether it is to be."""

    role: str
    content: str
    thinking: str | None = None
    learned: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a set: of whole conversations, or of prompts and responses.

    earlier: whether the assistant's turns within a prompt are learned, too. others: more columns, each of which gives
    a separate conversation in the rows that have it.
    """

    columns: tuple[str, ...]
    earlier: bool = False
    others: tuple[tuple[str, ...], ...] = ()

    @property
    def text(self) -> str:
        """The columns as people write them."""
        return ", ".join("+".join(columns) for columns in (self.columns, *self.others))

    def conversations(self, row: dict) -> list[list[Turn] | BadRow]:
        """The conversations of a row, or why there is none."""
        there = [columns for columns in self.others if not _is_missing(_found(row, columns[-1]))]
        if not there or not _is_missing(_found(row, self.columns[-1])):
            there = [self.columns, *there]
        found: list[list[Turn] | BadRow] = []
        for columns in there:
            try:
                found.append(replace(self, columns=columns).turns(row))
            except BadRow as error:
                found.append(error)
        return found

    def turns(self, row: dict) -> list[Turn]:
        """The conversation of a row in `columns`, up to the last turn that is learned. Raises BadRow."""
        for name in ("tools", "functions"):
            if row.get(name) not in (None, [], "", "[]"):
                raise BadRow(f"has {name}, which are not rendered")
        if len(self.columns) > 1 and isinstance(row.get("history"), list) and row["history"]:
            raise BadRow("has earlier turns in 'history', which is not read; write them as messages")
        if (mode := row.get("inference_mode")) in NO_TRACES:
            raise BadRow(f"has a solution of the inference mode '{mode}', {NO_TRACES[mode]}")
        *prompt, last = (_messages(_found(row, column), column) for column in self.columns)
        if prompt:
            before = prompt[0] if isinstance(prompt[0], list) else [Turn("user", prompt[0])]
            after = last if isinstance(last, list) else [Turn("assistant", last, None, True)]
            if after[0].role != "assistant":
                raise BadRow(f"has a '{self.columns[1]}' that does not begin with the assistant's turn")
            turns = [*(turn if self.earlier else replace(turn, learned=False) for turn in before), *after]
        elif isinstance(last, list):
            turns = last
        else:
            raise BadRow(f"has a '{self.columns[0]}' that is not a list of messages")
        system = row.get("system")
        if not isinstance(system, str | None) and system == system:  # NaN is none
            raise BadRow(f"has {system!r:.40} in 'system', where text must be")
        if isinstance(system, str) and system.strip():
            if turns[0].role == "system" and turns[0].content.strip() != system.strip():
                raise BadRow("has a system message, and another in 'system'")
            turns = turns if turns[0].role == "system" else [Turn("system", system), *turns]
        return _checked(turns)


def find_layout(
    source: str, rows: Iterable[dict], named: tuple[str | None, str | None], earlier: bool, known: str = ""
) -> Layout:
    """The layout of a set by its first rows. named: the columns that the user names, None for the usual ones.

    known: the known set that it is, "" to recognise it by its columns. Raises UserError if a named column is not there,
    if no usual one is, or where they fit more than one layout.
    """
    first: dict = {}
    for row in rows:
        first |= {name: value for name, value in row.items() if first.get(name) is None}
    prompt, response = named
    if not any(named) and (learned := _learned(first, known)):
        return Layout(learned[0], earlier, learned[1:])
    for name in filter(None, named):
        if look(first, name) is MISSING:
            raise UserError(
                f"{source} has no column '{name}', only {', '.join(first)}; name its columns with --data.input_key and "
                f"--data.output_key, or as {source}@COLUMNS"
            )
    if response is None and prompt is not None and _has_answer(look(first, prompt)):
        return Layout((prompt,), earlier)
    prompts = [prompt] if prompt else [name for name in PROMPTS if name in first]
    responses = [response] if response else [name for name in RESPONSES if name in first and name not in prompts]
    found: list[tuple[str, ...]] = [(one, other) for one in prompts for other in responses if one != other]
    if not any(named):
        found += [(name,) for name in WHOLE if name in first]
        found = [USUAL] if USUAL in found else found
    if prompt is None and "instruction" in first and found and all(columns[0] == "input" for columns in found):
        raise UserError(
            f"{source} has its prompt in two columns, instruction and input; join them in one column, or name one with "
            "--data.input_key"
        )
    if len(found) == 1:
        return Layout(found[0], earlier)
    if found:
        several = ", ".join("+".join(columns) for columns in found)
        raise UserError(f"{source} has the columns of several layouts ({several}); choose with {source}@COLUMNS")
    if prompt:
        raise UserError(
            f"{source} has no conversation with an answer in '{prompt}' and no column of responses, only "
            f"{', '.join(first)}; name that with --data.output_key"
        )
    hint = " (to learn worked solutions: --data.output_key solution)" if "solution" in first else ""
    raise UserError(
        f"{source} has no column of messages and no pair of a prompt and a response, only {', '.join(first)}; name its "
        f"columns with --data.input_key and --data.output_key{hint}"
    )


def _learned(first: dict, known: str) -> tuple[tuple[str, ...], ...]:
    """What is learned of a known set, () for the usual columns.

    A set that is recognised by its columns alone may also have other conversations.
    """
    known_or_seen = known or recognise(first)
    specs = [tuple(spec.split("+")) for spec in SOURCES[known_or_seen].learned] if known_or_seen else []
    there = tuple(columns for columns in specs if all(column in first for column in columns))
    if not known and any(name in first and (name,) not in there for name in (*WHOLE, *RESPONSES)):
        return ()
    return there


def _is_missing(value: object) -> bool:
    return value is None or value == "" or value != value


def _found(row: dict, column: str) -> Any:
    value = look(row, column)
    return None if value is MISSING else value


def _has_answer(value: object) -> bool:
    """Whether a column holds conversations with an answer, and not prompts."""
    try:
        messages = _messages(value, "")
    except BadRow:
        return isinstance(value, list)  # what is wrong is said where it is read
    return isinstance(messages, list) and any(turn.role == "assistant" for turn in messages)


def _messages(value: object, column: str) -> list[Turn] | str:
    """A column's messages, or its text."""
    if isinstance(value, str):
        return _written_messages(value, column) or value
    if isinstance(value, (int, float)) and value == value and not isinstance(value, bool):
        return str(value)
    if isinstance(value, dict):
        value = _listed(value)
    if value is None or value != value:
        raise BadRow(f"has no '{column}'")
    if not isinstance(value, list) or not value:
        raise BadRow(f"has a '{column}' that is neither text nor messages")
    return [_turn(message, column) for message in value]


def _written_messages(text: str, column: str) -> list[Turn] | None:
    """Messages written as JSON, as CSV holds them; None for another text."""
    if PYTHON_TURNS.match(text):
        raise BadRow(NOT_JSON)
    if not JSON_TURNS.match(text):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found = found if isinstance(found, list) else [found]
    if not all(isinstance(one, dict) and {"role", "from"} & one.keys() for one in found):
        return None
    return [_turn(message, column) for message in found]


def _listed(value: dict) -> list[dict]:
    """A message, or the lists by field that `datasets` makes of a list of messages."""
    if not all(isinstance(field, list) for field in value.values()):
        return [value]
    if len({len(field) for field in value.values()}) > 1:
        raise BadRow("has messages as lists by field of other lengths")
    return [dict(zip(value, fields, strict=True)) for fields in zip(*value.values(), strict=True)]


def _turn(message: object, column: str) -> Turn:
    if not isinstance(message, dict):
        raise BadRow(f"has a message in '{column}' that is not an object")
    role_name = message.get("role") or message.get("from")
    if not isinstance(role_name, str) or role_name not in ROLES:
        raise BadRow(f"has a message of the role {role_name!r:.40}; known are {', '.join(ROLES)}")
    if message.get("tool_calls") or message.get("function_call"):
        raise BadRow("has tool calls, which are not rendered")
    role, content = ROLES[role_name], message.get("content", message.get("value"))
    thinking = next((message[name] for name in FIELDS if message.get(name)), None) if role == "assistant" else None
    if role == "assistant" and isinstance(content, list) and thinking is None:
        thinking, content = _part_apart(content)
    content = _text("content", "" if content is None and thinking is not None else content)
    if role == "user":
        content = without_instruction(content)
    elif message.get("info"):
        content = without_answer_tags(content)
    weight = message.get("weight")  # OpenAI's files have 0 for turns that are not to be learned
    if weight not in (None, 0, 1):
        raise BadRow(f"has a message of the weight {weight!r:.40}, which must be 0 or 1")
    learned = role == "assistant" and weight != 0
    return Turn(role, content, None if thinking is None else _text("thinking", thinking), learned)


def _part_apart(parts: list) -> tuple[object, list]:
    """The thinking, if the first part is such, as in Mistral's and Anthropic's messages, and the parts behind it.

    Elsewhere a part of thinking is no text, which `_text` refuses.
    """
    first = parts[0] if parts else None
    if isinstance(first, dict) and first.get("type") == "thinking" and first.get("thinking"):
        return first["thinking"], parts[1:]
    return None, parts


def _text(what: str, value: object) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(value, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in value):
        texts = [part.get("text") or "" for part in value]
        value = "".join(texts) if all(isinstance(text, str) for text in texts) else value
    if not isinstance(value, str):
        raise BadRow(f"has a message whose {what} is {value!r:.40}, not text")
    return value


def _checked(turns: list[Turn]) -> list[Turn]:
    """The turns up to the last that is learned."""
    learned = [number for number, turn in enumerate(turns) if turn.learned]
    if not learned:
        raise BadRow("has no turn of the assistant to learn")
    turns = turns[: learned[-1] + 1]
    before = None
    for turn in turns:
        if turn.role == "assistant" and before != "user":
            what = "follows another" if before == "assistant" else "follows no question"
            raise BadRow(f"has a turn of the assistant that {what}")
        if turn.role == "user" and not turn.content.strip():
            raise BadRow("has an empty message of the user")
        for text in filter(None, (turn.content, turn.thinking)):
            if fault := text_error(text):
                raise BadRow(f"has a message that {fault}")
        before = turn.role
    return turns


def split_thinking(turn: Turn) -> tuple[str | None, str]:
    """(thinking, answer) of an assistant's turn with the space around them; None without thinking. Raises BadRow.

    A text with only a closing tag begins with thinking: the chat template of its model has written the opening tag.
    """
    text, thinking = turn.content, turn.thinking
    if thinking is not None:
        if any(tag in part for tag in (OPEN, CLOSE) for part in (text, thinking)):
            raise BadRow("has thinking in a separate field and thinking tags as well")
        thinking, answer = f"\n{thinking.strip()}\n", "\n\n" + text.lstrip()
    elif CLOSE in text:
        thinking, _, answer = text.partition(CLOSE)
        before, opened, inside = thinking.partition(OPEN)
        if opened and before.strip():
            raise BadRow(f"has text in front of {OPEN}")
        thinking = inside if opened else "\n" + thinking.removeprefix("\n")
        if any(tag in part for tag in (OPEN, CLOSE) for part in (thinking, answer)):
            raise BadRow("has more than one thinking part")
    else:
        answer = text
        if OPEN in text:
            raise BadRow(f"has thinking that is not closed by {CLOSE}")
    if not answer.strip():
        raise BadRow("has an empty response" if thinking is None else "has no answer behind its thinking")
    return thinking, answer
