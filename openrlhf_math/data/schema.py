"""The one schema that every source is read into."""

from collections.abc import Callable
from dataclasses import dataclass, fields

# A longer text is neither a problem nor an answer: the row is broken and is skipped.
MAX_GOLD = 20_000
MAX_TEXT = 2_000_000
KINDS = ("open", "choice", "proof")


class BrokenRow(ValueError):
    """A row that cannot be read into the schema. The message says why, for the rejects file."""


@dataclass(frozen=True, slots=True)
class Row:
    """A problem as its source gives it.

    answer: the gold answer, "" where there is none. origin: where the source has it from. kind: "open", "choice" or
    "proof", as the source says or the text shows. difficulty: on the source's own scale. trace: a chain of thought that
    leads to the answer, its thinking between <think> and </think>. flaw: why the source itself marks the row as unfit.
    dialogue: chat messages of which the last is the problem, where the source has some in front of it.
    """

    problem: str
    answer: str
    solution: str | None = None
    origin: str | None = None
    kind: str = "open"
    subject: str | None = None
    difficulty: float | None = None
    trace: str | None = None
    flaw: str = ""
    dialogue: list[dict[str, str]] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.problem, str) or not self.problem.strip():
            raise BrokenRow("there is no problem in it")
        if not isinstance(self.answer, str) or self.kind not in KINDS:
            raise BrokenRow(f"the answer is {self.answer!r:.40}, the kind {self.kind!r:.40}")
        if len(self.answer) > MAX_GOLD:
            raise BrokenRow(f"the gold answer has {len(self.answer):,} characters, at most {MAX_GOLD:,} are read")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "dialogue":
                for turn in value or []:
                    _check_text("dialogue", turn["content"])
                continue
            if value is not None and not isinstance(value, (int, float) if field.name == "difficulty" else str):
                raise BrokenRow(f"the {field.name} is {value!r:.40}")
            if isinstance(value, str):
                _check_text(field.name, value)


def read_row(read: Callable[[dict], Row], raw: dict | str) -> Row:
    """A row in the schema. raw: a reason in its place if it is unreadable.

    Raises BrokenRow, whatever is wrong with it: no row may cost another.
    """
    if isinstance(raw, str):
        raise BrokenRow(raw)
    try:
        row = read(raw)
    except BrokenRow:
        raise
    except Exception as error:  # values of any type may be in a column, and a reader may be the user's own
        raise BrokenRow(f"it cannot be read ({type(error).__name__}: {error!s:.200})") from error
    if not isinstance(row, Row):
        raise BrokenRow(f"its reader gave {row!r:.40}, it must give a Row")
    return row


def _check_text(name: str, text: str) -> None:
    if len(text) > MAX_TEXT:
        raise BrokenRow(f"the {name} has {len(text):,} characters, at most {MAX_TEXT:,} are read")
    if fault := text_error(text):
        raise BrokenRow(f"the {name} {fault}")


def text_error(text: object) -> str | None:
    """Why no tokenizer takes a text, as the end of a sentence; None if nothing is wrong, or for another value."""
    if not isinstance(text, str):
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode (a lone surrogate)"
    return "holds binary data" if "\0" in text else None
