r"""Problem sources: how the columns of each are read into the schema.

A source is known by its name (`numinamath-1.5=FILE`, `AI-MO/NuminaMath-1.5`) or by its columns. One's own is a dotted
path to a function from a row (a dict) to a `Row`: `package.module.function=FILE`.
"""

import ast
import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

from openrlhf_math.curation.dotted import import_function
from openrlhf_math.curation.schema import BrokenRow, Row
from openrlhf_math.rewards.extract import extract

Reader = Callable[[dict], Row]


@dataclass(frozen=True, slots=True)
class Source:
    """A known source: how a row of it is read, the columns it is told by, its place on the hub and its licence."""

    name: str
    read: Reader
    columns: frozenset[str]
    hub: str
    configs: tuple[str, ...]
    split: str
    licence: str


SOURCES: dict[str, Source] = {}


def register_source(
    name: str, *, columns: Iterable[str], hub: str = "", configs: Iterable[str] = (), split: str = "train", licence: str
):
    """Make a reader of rows known by its name, its hub name and its columns."""

    def register(read: Reader) -> Reader:
        SOURCES[name] = Source(name, read, frozenset(columns), hub, tuple(configs), split, licence)
        return read

    return register


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what, for files of no known source. None: one of the usual names, where there is one."""

    problem: str | None = None
    answer: str | None = None
    solution: str | None = None
    trace: str | None = None
    difficulty: str | None = None

    def name(self, what: str, row: Container[str]) -> str | None:
        given = getattr(self, what)
        return given or next((name for name in USUAL[what] if name in row), None)


USUAL = {
    "problem": ("problem", "question", "prompt", "Problem", "Question"),
    "answer": ("answer", "gold", "final_answer", "label", "Answer", "solution"),
    "solution": ("solution", "Solution"),
    "trace": ("trace", "response"),
    "difficulty": ("difficulty", "level"),
}


@dataclass(frozen=True)
class PlainReader:
    """Reads the rows of files of no known source, by the names of their columns."""

    columns: Columns = field(default_factory=Columns)

    def __call__(self, row: dict) -> Row:
        found = {what: self.columns.name(what, row) for what in USUAL}
        values = {what: row.get(name) if name else None for what, name in found.items()}
        return Row(
            problem=_text(values["problem"]),
            answer=_gold(values["answer"]),
            solution=_text(values["solution"]) or None,
            origin=_text(row.get("source")) or None,
            trace=_text(values["trace"]) or None,
            difficulty=_number(values["difficulty"]),
        )


def with_usual_names(read: Reader, columns: Columns) -> Reader:
    """A known set's reader, for files in which the problem or the answer has another of its usual names.

    A problem or answer that the row lacks is given under each of these names; columns named by a flag come first.
    """

    def read_any(row: dict) -> Row:
        names = dict(row)
        for what in ("problem", "answer"):
            name = columns.name(what, row)
            if name in row and (what == "problem" or name != "solution"):
                names = dict.fromkeys(USUAL[what], row[name]) | names
                if getattr(columns, what):
                    names |= {one: row[name] for one in USUAL[what] if one != "solution"}
        if "solution" not in row:
            names.pop("solution", None)
        return read(names)

    return read_any


def find_reader(name: str) -> Reader:
    """The reader of a known source, or one's own by dotted path. Raises UserError if there is none."""
    return SOURCES[name].read if name in SOURCES else import_function("source", name, SOURCES)


def recognise(columns: Iterable[str]) -> str | None:
    """The known source whose columns these are: of those that fit the one with most columns."""
    columns = set(columns)
    fitting = [source for source in SOURCES.values() if source.columns and source.columns <= columns]
    return max(fitting, key=lambda source: len(source.columns)).name if fitting else None


_KINDS = {"MCQ": "choice", "proof": "proof", "math-word-problem": "open"}


@register_source(
    "numinamath-1.5",
    hub="AI-MO/NuminaMath-1.5",
    columns=("problem", "solution", "answer", "problem_type", "question_type", "problem_is_valid", "solution_is_valid"),
    licence="apache-2.0",
)
def numinamath(row: dict) -> Row:
    flaws = [
        f"{what.replace('_is_valid', '')} marked {row[what]!r}"
        for what in ("problem_is_valid", "solution_is_valid")
        if row.get(what) not in ("Yes", None)
    ]
    return Row(
        problem=_text(row.get("problem")),
        answer=_gold(row.get("answer")),
        solution=_text(row.get("solution")) or None,
        origin=_text(row.get("source")) or None,
        kind=_KINDS.get(row.get("question_type"), "open"),
        subject=_text(row.get("problem_type")) or None,
        flaw=", ".join(flaws),
    )


@register_source(
    "openr1-math-220k",
    hub="open-r1/OpenR1-Math-220k",
    configs=("default",),
    columns=("problem", "solution", "answer", "question_type", "generations", "correctness_math_verify"),
    licence="apache-2.0",
)
def openr1(row: dict) -> Row:
    return Row(
        problem=_text(row.get("problem")),
        answer=_gold(row.get("answer")),
        solution=_text(row.get("solution")) or None,
        origin=_text(row.get("source")) or None,
        kind=_KINDS.get(row.get("question_type"), "open"),
        subject=_text(row.get("problem_type")) or None,
        trace=_verified_generation(row),
    )


def _verified_generation(row: dict) -> str | None:
    """The first finished generation that math-verify or, where it could not tell, the judge found correct."""
    for verdict in ("correctness_math_verify", "correctness_llama"):
        for index, text in enumerate(row.get("generations") or []):
            checks = [row.get(verdict) or [], row.get("is_reasoning_complete") or []]
            if all(index < len(check) and check[index] is True for check in checks) and isinstance(text, str):
                return text
    return None


_CALCULATOR = re.compile(r"<<[^<>]*>>")
_FIGURE = re.compile(r"\d+(?:\.\d+)?")
_STRATOS_ASKS = re.compile(r"\s{0,8}Return your final response within \\boxed\{\}\.\s*")
_STRATOS_MARKS = {
    "<|begin_of_thought|>": "<think>",
    "<|end_of_thought|>": "</think>",
    "<|begin_of_solution|>": "",
    "<|end_of_solution|>": "",
}


@register_source(
    "bespoke-stratos-17k",
    hub="bespokelabs/Bespoke-Stratos-17k",
    columns=("system", "conversations"),
    licence="apache-2.0",
)
def bespoke_stratos(row: dict) -> Row:
    """A dialogue: the gold is in the trace's box. What has none (its code and puzzles) falls to the gold filter."""
    said = {}
    for turn in row.get("conversations") or []:
        if not isinstance(turn, dict):
            raise BrokenRow(f"`conversations` holds {turn!r:.40}, it must hold from and value")
        said.setdefault(turn.get("from"), turn.get("value"))
    trace = _text(said.get("assistant") or said.get("gpt"))
    for mark, ours in _STRATOS_MARKS.items():
        trace = trace.replace(mark, ours)
    asked = _text(said.get("user") or said.get("human"))
    return Row(problem=_STRATOS_ASKS.sub("", asked, count=1), answer=_boxed(trace), trace=trace or None)


@register_source("gsm8k", hub="openai/gsm8k", configs=("main",), columns=("question", "answer"), licence="mit")
def gsm8k(row: dict) -> Row:
    """The gold stands behind `####`; `<<48/2=24>>` in the solution are calculator notes, not text."""
    solution, mark, gold = _gold(row.get("answer")).rpartition("####")
    return Row(
        problem=_text(row.get("question")),
        answer=gold.strip(),
        solution=_CALCULATOR.sub("", solution).strip() if mark else None,
    )


@register_source(
    "math",
    hub="EleutherAI/hendrycks_math",
    configs=(
        "algebra",
        "counting_and_probability",
        "geometry",
        "intermediate_algebra",
        "number_theory",
        "prealgebra",
        "precalculus",
    ),  # fmt: skip
    columns=("problem", "solution", "level", "type"),
    licence="mit",
)
def hendrycks_math(row: dict) -> Row:
    return Row(
        problem=_text(row.get("problem")),
        answer=_gold(row.get("answer")) or _boxed(_text(row.get("solution"))),
        solution=_text(row.get("solution")) or None,
        subject=_text(row.get("type") or row.get("subject")) or None,
        difficulty=_number(row.get("level")),
    )


register_source(
    "math-500",
    hub="HuggingFaceH4/MATH-500",
    split="test",
    columns=("problem", "solution", "answer", "subject", "level", "unique_id"),
    licence="mit",
)(hendrycks_math)


@register_source(
    "olympiadbench",
    hub="Hothan/OlympiadBench",
    configs=("OE_TO_maths_en_COMP",),
    columns=("question", "final_answer", "solution", "subfield"),
    licence="apache-2.0",
)
def olympiadbench(row: dict) -> Row:
    return Row(
        problem=" ".join(part for part in (_text(row.get("context")), _text(row.get("question"))) if part),
        answer=_gold(row.get("final_answer")),
        solution=_gold(row.get("solution")) or None,
        subject=_text(row.get("subfield")) or None,
    )


# Benchmarks with plain columns, known by name alone.
for _name, _hub, _split, _licence in (
    ("aime", "AI-MO/aimo-validation-aime", "train", "apache-2.0"),
    ("aime-2024", "HuggingFaceH4/aime_2024", "train", "not stated"),
    ("aime-2025", "math-ai/aime25", "test", "not stated"),
    ("amc", "AI-MO/aimo-validation-amc", "train", "apache-2.0"),
    ("amc-2023", "math-ai/amc23", "test", "not stated"),
):
    register_source(_name, hub=_hub, split=_split, columns=(), licence=_licence)(PlainReader())

register_source("gsm8k-test", hub="openai/gsm8k", configs=("main",), split="test", columns=(), licence="mit")(gsm8k)


def _text(value) -> str:
    """Text, or a dialogue's last user turn; "" for nothing. Raises BrokenRow for what is no text."""
    if value is None:
        return ""
    if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
        asked = [turn.get("content") for turn in value if turn.get("role") == "user"]
        value = asked[-1] if asked else None
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise BrokenRow(f"it is not valid UTF-8 ({error.reason} at byte {error.start})") from None
    if not isinstance(value, str):
        raise BrokenRow(f"{value!r:.40} stands where text must stand")
    return value


def _gold(value) -> str:
    """The gold as text: a number as it is written, the entries of a list joined."""
    if isinstance(value, bool):
        raise BrokenRow(f"the gold answer is {value}, it must be text or a number")
    if isinstance(value, (int, float)):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if isinstance(value, str) and value.startswith("['") and value.endswith("']"):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(one) for one in value)
    return _text(value)


def _boxed(text: str) -> str:
    found = extract(text)
    return found.answer if found.boxes else ""


def _number(value) -> float | None:
    """`5`, `"Level 5"` -> 5.0; None where there is no number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    found = _FIGURE.search(value) if isinstance(value, str) else None
    return float(found[0]) if found else None
