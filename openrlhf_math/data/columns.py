"""Columns by name: the usual ones, those that a flag names, fields within one, and what a cell holds."""

import ast
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from openrlhf_math.data.schema import BrokenRow
from openrlhf_math.errors import UserError

USUAL = {
    "problem": ("problem", "question", "prompt", "Problem", "Question"),
    "answer": (
        "answer",
        "gold",
        "final_answer",
        "expected_answer",
        "ground_truth",
        "label",
        "Answer",
        "Short Answer",
        "solution",
    ),  # fmt: skip
    "solution": ("solution", "Solution"),
    "trace": ("trace", "response", "completion"),
    "difficulty": ("difficulty", "level"),
}
SHOWN = {"trace": "response"}
# Messages as Python and pandas write a list of them, which is not JSON.
PYTHON_TURNS = re.compile(r"\A\s{0,99}\[\s{0,99}\{\s{0,99}'(?:role|from|content|value)'\s{0,9}:")
NOT_JSON = "holds messages as Python writes them; write them as JSON"
SHOWN_COLUMNS = 50  # of those that a message lists
EXACT = 2**53  # from here on a 64-bit float represents several integers
MISSING = object()
_FIGURE = re.compile(r"-?\d+(?:\.\d+)?")
_SHARE = re.compile(r"\s{0,9}(\d{1,9})\s{0,9}/\s{0,9}(\d{1,9})\s{0,9}")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what: those that the user names. None: as the set's layout has it, or the usual name.

    A field within a column is `reward_model.ground_truth`, an entry of a list `prompt.0.content`.
    """

    problem: str | None = None
    answer: str | None = None
    solution: str | None = None
    trace: str | None = None
    difficulty: str | None = None

    def find(self, what: str, row: dict) -> Any:
        """The value of a row, MISSING where there is no such column."""
        names = (getattr(self, what),) if getattr(self, what) else USUAL[what]
        return next((value for name in names if (value := look(row, name)) is not MISSING), MISSING)

    def named(self) -> dict[str, str]:
        """What the user names: {"problem": "q"}."""
        return {what: getattr(self, what) for what in USUAL if getattr(self, what)}


def check_columns(place: str, rows: list[dict], columns: Columns, needed: Iterable[str], flags: dict[str, str]) -> None:
    """Raise UserError if no row has a column of what is needed. flags: by what they name."""
    for what in needed:
        if all(columns.find(what, row) is MISSING for row in rows):
            lists = rows[0] if len(rows) == 1 else {}
            if wrapper := next((name for name, value in lists.items() if _holds(value, what, columns)), None):
                raise UserError(
                    f"{place} is one object with its rows in the field '{wrapper}'; make the file that list alone"
                )
            names = list(dict.fromkeys(name for row in rows for name in _names(row)))
            more = f" and {len(names) - SHOWN_COLUMNS:,} more" if len(names) > SHOWN_COLUMNS else ""
            there = ", ".join(f"{name:.80}" for name in names[:SHOWN_COLUMNS]) + more
            named = getattr(columns, what)
            missing = f"column '{named}'" if named else f"column of the {SHOWN.get(what, what)}"
            raise UserError(f"{place} has no {missing}, only {there}; name it with {flags.get(what, f'--{what}-key')}")


def _names(row: dict) -> list[str]:
    """The names of the columns, of an object those of its fields: what a flag can name."""
    fields = [(str(name), decoded(value)) for name, value in row.items()]
    return [
        shown
        for name, value in fields
        for shown in ([f"{name}.{field}" for field in value] if isinstance(value, dict) and value else [name])
    ]


def _holds(value: object, what: str, columns: Columns) -> bool:
    """Whether a field is a list of rows that have a column of what is needed."""
    row = value[0] if isinstance(value, list) and value else None
    return isinstance(row, dict) and columns.find(what, row) is not MISSING


def look(row: dict, name: str) -> Any:
    """The value of a column, or of a field within one; MISSING where there is none."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        value = decoded(value)
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.removeprefix("-").isdecimal() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def decoded(value: object) -> Any:
    """What a cell of text holds if that is JSON, as CSV has lists and objects; else the value."""
    if isinstance(value, str) and value[:1] in "[{" and value[-1:] in ("]", "}"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def text_of(value: object) -> str:
    """Text, "" for nothing; of chat messages the last of the user. Raises BrokenRow for what is not text."""
    if value is None or value is MISSING or value != value:  # NaN, which tables have for nothing
        return ""
    if turns := turns_of(value):
        value = next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), "")
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise BrokenRow(f"it is not valid UTF-8 ({error.reason} at byte {error.start})") from None
    if not isinstance(value, str):
        raise BrokenRow(f"it has {value!r:.40} where text must be")
    return value


ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}


def turns_of(value: object) -> list[dict[str, str]]:
    """Chat messages as {"role", "content"}, of which the texts are checked; [] for another value.

    Messages have role and content, or from and value; they may be JSON in a cell of text.
    """
    value = decoded(value)
    if isinstance(value, str) and PYTHON_TURNS.match(value):
        raise BrokenRow(f"it {NOT_JSON}")
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        return []
    turns = []
    for turn in value:
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if isinstance(content, list):
            raise BrokenRow(
                f"it has a message of the role {role!r:.20} whose content is a list of parts; write it as text"
            )
        if not isinstance(role, str) or not isinstance(content, str):
            raise BrokenRow(f"it has the message {turn!r:.60}, which has no role and content")
        turns.append({"role": ROLES.get(role, role), "content": content})
    return turns


def dialogue_of(value: object) -> list[dict[str, str]] | None:
    """The messages up to the problem where there is more than the problem: a system message, examples."""
    turns = turns_of(value)
    asked = [index for index, turn in enumerate(turns) if turn["role"] == "user"]
    return turns[: asked[-1] + 1] if asked and asked[-1] > 0 else None


def gold_of(value: object, joined: bool = False) -> str:
    """The gold as text: a number as it is written; of a list, which may be JSON in a text, the only entry.

    joined: the entries of a list are one answer together. Raises BrokenRow for several golds, or what is none.
    """
    if value is None or value is MISSING or value != value:
        return ""
    if isinstance(value, bool):
        raise BrokenRow(f"the gold answer is {value}, it must be text or a number")
    if isinstance(value, Decimal) and value.is_finite():  # of Parquet, as databases write it
        return str(int(value)) if value == int(value) else f"{value.normalize():f}"
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        raise BrokenRow(f"the gold answer is the number {value}; write it as text if it is meant")
    if isinstance(value, float) and abs(value) > EXACT:
        raise BrokenRow(f"the gold answer {value!r} has more digits than a float holds; write it as text")
    if isinstance(value, (int, float)):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if isinstance(value, str) and (value[:2], value[-2:]) in (("['", "']"), ('["', '"]')):
        value = _listed(value)
    if isinstance(value, (list, tuple)):
        if len(value) > 1 and not joined:
            raise BrokenRow(
                f"it has {len(value)} gold answers; name one of them, as `answer.0`, or write them as one text if they "
                "are one answer"
            )
        return ", ".join(gold_of(one) for one in value)
    if isinstance(value, str) and value[:1] == "{" and isinstance(found := decoded(value), dict) and found:
        raise BrokenRow(f"the gold answer is the JSON object {value!r:.60}; name the field of it as column.field")
    return text_of(value)


def gold_in(value: object, place: str, name: str) -> str:
    """The gold of a row that must have one. name: of its column. Raises UserError that names the place."""
    if value is None or isinstance(value, bool) or value != value:  # NaN
        raise UserError(f"{place}: `{name}` is {value!r}, it must be text.")
    try:
        return gold_of(value)
    except BrokenRow as error:
        raise UserError(f"{place}: {error}.") from None


def label_of(value: object) -> str | None:
    """What rows are grouped by, as text: 5.0 is "5". None for nothing, which tables also have as NaN or as ""."""
    if value is None or value is MISSING or value == "" or value != value:
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:g}"
    return str(value)


def _listed(text: str) -> object:
    readers: tuple[Callable[[str], object], ...] = (json.loads, ast.literal_eval)
    for read in readers:
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def number_of(value: object) -> float | None:
    """`5`, `"Level 5"` -> 5.0, `"3/8"` -> 0.375; None where there is no number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if value == value else None
    if not isinstance(value, str):
        return None
    if (share := _SHARE.fullmatch(value)) and int(share[2]):
        return int(share[1]) / int(share[2])
    found = _FIGURE.search(value[:1000])
    return float(found[0]) if found else None
