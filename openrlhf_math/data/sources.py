r"""Problem sets of the field: how the columns of each are read into the schema.

A set is known by its name (`numinamath-1.5=FILE`, `AI-MO/NuminaMath-1.5`) or by its columns; other sets are read by the
usual names, or by those that a flag gives.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from openrlhf_math.data.columns import (
    MISSING,
    USUAL,
    Columns,
    check_columns,
    decoded,
    dialogue_of,
    gold_of,
    look,
    number_of,
    text_of,
    turns_of,
)
from openrlhf_math.data.schema import BrokenRow, Row
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


@dataclass(frozen=True)
class PlainReader:
    """Reads the rows of files of no known set, by the names of their columns."""

    columns: Columns = field(default_factory=Columns)

    def __call__(self, row: dict) -> Row:
        values = {what: self.columns.find(what, row) for what in USUAL}
        answer = gold_of(values["answer"])
        if values["answer"] is values["solution"]:  # a worked solution in place of an answer ends in a box
            answer = _boxed(answer) or answer
        return Row(
            problem=text_of(values["problem"]),
            answer=answer,
            solution=_optional(values["solution"]),
            origin=_optional(row.get("source")),
            trace=_response(values["trace"]),
            difficulty=number_of(values["difficulty"]),
            dialogue=dialogue_of(values["problem"]),
        )


def with_usual_names(read: Reader, columns: Columns) -> Reader:
    """A known set's reader, for files in which the problem or the answer has another of its usual names.

    A problem or answer that the row lacks is given under each of these names; columns named by a flag come first.
    """

    def read_any(row: dict) -> Row:
        names = dict(row)
        for what in ("problem", "answer"):
            named, value = getattr(columns, what), columns.find(what, row)
            if value is MISSING or (not named and what == "answer" and "solution" in row and value is row["solution"]):
                continue
            others = [name for name in USUAL[what] if name != "solution"]
            names = names | dict.fromkeys(others, value) if named else dict.fromkeys(others, value) | names
        found = read(names)
        if columns.solution:
            found = replace(found, solution=_optional(columns.find("solution", row)))
        if columns.trace:
            found = replace(found, trace=_response(columns.find("trace", row)))
        if columns.difficulty:
            found = replace(found, difficulty=number_of(columns.find("difficulty", row)))
        return found

    return read_any


def recognised(
    place: str,
    rows: list[dict],
    columns: Columns,
    known: str = "",
    needed: Iterable[str] = ("problem", "answer"),
    flags: dict[str, str] | None = None,
) -> str:
    """The known set that the first rows of a set are of, "" for plain columns. known: its name, if that is given.

    flags: of the command, by what they name. Raises UserError if a column that is named or needed is not there.
    """
    there = dict.fromkeys(name for row in rows for name in row)
    name = known or ("" if columns.named().keys() & {"problem", "answer"} else recognise(there))
    check_columns(place, rows, columns, columns.named().keys() & {*needed} if name else needed, flags or {})
    return name


def reader_of(name: str, columns: Columns) -> Reader:
    """How the rows of a known set are read, "" for plain columns. Columns that the user names come first."""
    return with_usual_names(SOURCES[name].read, columns) if name else PlainReader(columns)


def recognise(columns: Iterable[str]) -> str:
    """The known set whose columns these are, "" for none: of those that fit the one with most columns."""
    columns = set(columns)
    fitting = [source for source in SOURCES.values() if source.columns and source.columns <= columns]
    if fitting:
        return max(fitting, key=lambda source: len(source.columns)).name
    whole = not columns.isdisjoint(("conversations", "messages")) and columns.isdisjoint(USUAL["problem"])
    return "conversations" if whole else ""


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
        problem=text_of(row.get("problem")),
        answer=gold_of(row.get("answer")),
        solution=_optional(row.get("solution")),
        origin=_optional(row.get("source")),
        kind=_KINDS.get(row.get("question_type"), "open"),
        subject=_optional(row.get("problem_type")),
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
        problem=text_of(row.get("problem")),
        answer=gold_of(row.get("answer")),
        solution=_optional(row.get("solution")),
        origin=_optional(row.get("source")),
        kind=_KINDS.get(row.get("question_type"), "open"),
        subject=_optional(row.get("problem_type")),
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
# What sets write around a problem. The commands add an instruction of their own.
_ASKS_BEFORE = (
    "Return your final response within \\boxed{}.",
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.",
)
_ASKS_AFTER = (
    'Remember to put your answer on its own line after "Answer:".',
    "Let's think step by step and output the final answer within \\boxed{}.",
    'Let\'s think step by step and output the final answer after "####".',
)
_THOUGHT_MARKS = {
    "<|begin_of_thought|>": "<think>",
    "<|end_of_thought|>": "</think>",
    "<|begin_of_solution|>": "",
    "<|end_of_solution|>": "",
}


def _without_instruction(text: str) -> str:
    for asks in _ASKS_BEFORE:
        if text.lstrip().startswith(asks):
            text = text.lstrip().removeprefix(asks).lstrip()
    for asks in _ASKS_AFTER:
        if text.rstrip().endswith(asks):
            text = text.rstrip().removesuffix(asks).rstrip()
    return text


def conversation(row: dict) -> Row:
    """One question and its answer as turns, under `conversations` or `messages`, or as Open-Reasoner-Zero has them.

    The gold is what a turn carries (`ground_truth.value` of Open-Reasoner-Zero, `info.reference_answer` of
    AM-DeepSeek-R1-Distilled), else the box of the answer. What has none falls to the gold filter.
    """
    value = next((row[name] for name in ("conversations", "messages") if name in row), [row.get("0"), row.get("1")])
    turns = [turn for turn in decoded(value) or [] if isinstance(turn, dict)]
    said = turns_of([turn for turn in turns if turn.get("content", turn.get("value")) is not None])
    asked = [index for index, turn in enumerate(said) if turn["role"] == "user"]
    if len(asked) != 1:
        raise BrokenRow(f"it is a conversation with {len(asked)} questions, it must be one problem")
    trace = next((turn["content"] for turn in said[asked[0] + 1 :] if turn["role"] == "assistant"), "")
    thinking = next((turn["reasoning_content"] for turn in turns if turn.get("reasoning_content")), "")
    if thinking and trace:
        trace = f"<think>\n{text_of(thinking).strip()}\n</think>\n\n{trace}"
    for mark, ours in _THOUGHT_MARKS.items():
        trace = trace.replace(mark, ours)
    if any(turn.get("info") for turn in turns):  # AM's answers are within tags, and hold their box
        trace = trace.replace("<answer>", "").replace("</answer>", "")
    golds = (look(turn, name) for turn in turns for name in ("ground_truth.value", "info.reference_answer"))
    problem = _without_instruction(said[asked[0]]["content"])
    before = said[: asked[0]]
    return Row(
        problem=problem,
        answer=next((gold for value in golds if (gold := gold_of(value))), "") or _boxed(trace),
        origin=_optional(row.get("source")) or _optional(next((look(turn, "info.source") for turn in turns), None)),
        subject=_optional(row.get("domain")),
        difficulty=number_of(row.get("difficulty")),
        trace=trace or None,
        dialogue=[*before, {"role": "user", "content": problem}] if before else None,
    )


for _name, _hub, _columns, _licence in (
    ("bespoke-stratos-17k", "bespokelabs/Bespoke-Stratos-17k", ("system", "conversations"), "apache-2.0"),
    ("openthoughts3", "open-thoughts/OpenThoughts3-1.2M", ("domain", "source", "conversations"), "not stated"),
    ("mixture-of-thoughts", "open-r1/Mixture-of-Thoughts", ("messages", "num_tokens", "source"), "not stated"),
    ("am-deepseek-r1-distilled", "a-m-team/AM-DeepSeek-R1-Distilled-1.4M", (), "not stated"),
    ("orz", "", ("0", "1"), "not stated"),
    ("conversations", "", (), "not stated"),
):  # fmt: skip
    register_source(_name, hub=_hub, columns=_columns, licence=_licence)(conversation)


@register_source("verl", columns=("prompt", "reward_model"), licence="not stated")
def verl(row: dict) -> Row:
    """verl's columns: messages in `prompt`, the gold in `reward_model`, often the bare question in `extra_info`."""
    question = look(row, "extra_info.question")
    bare = isinstance(question, str) and bool(question.strip())
    problem = question if bare else _without_instruction(text_of(row.get("prompt")))
    dialogue = None if bare else dialogue_of(row.get("prompt"))
    return Row(
        problem=problem,
        answer=gold_of(look(row, "reward_model.ground_truth")),
        origin=_optional(row.get("data_source")),
        dialogue=dialogue and [*dialogue[:-1], {"role": "user", "content": problem}],
    )


for _name, _hub, _split, _licence in (
    ("dapo-math-17k", "BytedTsinghua-SIA/DAPO-Math-17k", "train", "apache-2.0"),
    ("skywork-or1", "Skywork/Skywork-OR1-RL-Data", "math", "not stated"),
):
    register_source(_name, hub=_hub, split=_split, columns=(), licence=_licence)(verl)


@register_source(
    "numinamath-cot",
    hub="AI-MO/NuminaMath-CoT",
    columns=("source", "problem", "solution", "messages"),
    licence="not stated",
)
def numinamath_cot(row: dict) -> Row:
    """A worked solution, of which the box has the gold; the same text answers in `messages`."""
    solution = text_of(row.get("solution"))
    return Row(
        problem=text_of(row.get("problem")),
        answer=_boxed(solution),
        solution=solution or None,
        origin=_optional(row.get("source")),
        trace=_response(row.get("messages")) or solution or None,
    )


@register_source(
    "big-math",
    hub="SynthLabsAI/Big-Math-RL-Verified",
    columns=("problem", "answer", "source", "domain", "llama8b_solve_rate"),
    licence="apache-2.0",
)
def big_math(row: dict) -> Row:
    """The difficulty is one minus the share of a model's attempts that solve it."""
    return Row(
        problem=text_of(row.get("problem")),
        answer=gold_of(row.get("answer")),
        origin=_optional(row.get("source")),
        subject=_first(row.get("domain")),
        difficulty=_failed_share(row.get("llama8b_solve_rate")),
    )


@register_source("polaris-53k", hub="POLARIS-Project/Polaris-Dataset-53K", columns=(), licence="apache-2.0")
def polaris(row: dict) -> Row:
    """`difficulty` is the share of a model's attempts that solve it, as "3/8"; here it is one minus that."""
    return Row(
        problem=text_of(row.get("problem")),
        answer=gold_of(row.get("answer")),
        difficulty=_failed_share(row.get("difficulty")),
    )


@register_source(
    "omni-math",
    hub="KbsdJames/Omni-MATH",
    split="test",
    columns=("domain", "difficulty", "problem", "solution", "answer", "source"),
    licence="apache-2.0",
)
def omni_math(row: dict) -> Row:
    return Row(
        problem=text_of(row.get("problem")),
        answer=gold_of(row.get("answer")),
        solution=_optional(row.get("solution")),
        origin=_optional(row.get("source")),
        subject=_first(row.get("domain")),
        difficulty=number_of(row.get("difficulty")),
    )


@register_source(
    "openmathreasoning",
    hub="nvidia/OpenMathReasoning",
    split="cot",
    columns=("problem", "expected_answer", "generated_solution", "inference_mode"),
    licence="not stated",
)
def openmathreasoning(row: dict) -> Row:
    """A row a solution. Those that run code or choose among others (`inference_mode`) are no traces."""
    return Row(
        problem=text_of(row.get("problem")),
        answer=gold_of(row.get("expected_answer")),
        origin=_optional(row.get("problem_source")),
        difficulty=_failed_share(row.get("pass_rate_72b_tir")),
        trace=_optional(row.get("generated_solution")) if row.get("inference_mode") == "cot" else None,
    )


@register_source(
    "deepmath-103k",
    hub="zwhe99/DeepMath-103K",
    columns=("question", "final_answer", "difficulty", "topic", "r1_solution_1"),
    licence="mit",
)
def deepmath(row: dict) -> Row:
    """The first of R1's solutions, of which some begin within their thinking."""
    trace = text_of(row.get("r1_solution_1"))
    opened = "<think>" in trace or "</think>" not in trace
    return Row(
        problem=text_of(row.get("question")),
        answer=gold_of(row.get("final_answer")),
        subject=_optional(row.get("topic")),
        difficulty=number_of(row.get("difficulty")),
        trace=(trace if opened else f"<think>\n{trace}") or None,
    )


@register_source("gsm8k", hub="openai/gsm8k", configs=("main",), columns=("question", "answer"), licence="mit")
def gsm8k(row: dict) -> Row:
    """The gold stands behind `####`; `<<48/2=24>>` in the solution are calculator notes, not text."""
    solution, mark, gold = gold_of(row.get("answer")).rpartition("####")
    return Row(
        problem=text_of(row.get("question")),
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
        problem=text_of(row.get("problem")),
        answer=gold_of(row.get("answer")) or _boxed(text_of(row.get("solution"))),
        solution=_optional(row.get("solution")),
        subject=_optional(row.get("type") or row.get("subject")),
        difficulty=number_of(row.get("level")),
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
        problem=" ".join(part for part in (text_of(row.get("context")), text_of(row.get("question"))) if part),
        answer=gold_of(row.get("final_answer"), joined=True),
        solution=gold_of(row.get("solution"), joined=True) or None,
        subject=_optional(row.get("subfield")),
    )


# Sets with plain columns, known by name alone.
for _name, _hub, _split, _licence in (
    ("acereason-math", "nvidia/AceReason-Math", "train", "not stated"),
    ("aime", "AI-MO/aimo-validation-aime", "train", "apache-2.0"),
    ("aime-2024", "HuggingFaceH4/aime_2024", "train", "not stated"),
    ("aime-2025", "math-ai/aime25", "test", "not stated"),
    ("amc", "AI-MO/aimo-validation-amc", "train", "apache-2.0"),
    ("aime-2026", "MathArena/aime_2026", "train", "cc-by-nc-sa-4.0"),
    ("amc-2023", "math-ai/amc23", "test", "not stated"),
    ("amo-bench", "meituan-longcat/AMO-Bench", "test", "see its card"),
    ("beyond-aime", "ByteDance-Seed/BeyondAIME", "test", "see its card"),
    ("brumo-2025", "MathArena/brumo_2025", "train", "cc-by-nc-sa-4.0"),
    ("cmimc-2025", "MathArena/cmimc_2025", "train", "cc-by-nc-sa-4.0"),
    ("college-math", "di-zhang-fdu/College_Math_Test", "test", "apache-2.0"),
    ("hmmt-feb-2025", "MathArena/hmmt_feb_2025", "train", "cc-by-nc-sa-4.0"),
    ("hmmt-feb-2026", "MathArena/hmmt_feb_2026", "train", "cc-by-nc-sa-4.0"),
    ("hmmt-nov-2025", "MathArena/hmmt_nov_2025", "train", "cc-by-nc-sa-4.0"),
    ("imo-answerbench", "Hwilner/imo-answerbench", "train", "see its card"),
    ("minerva", "math-ai/minervamath", "test", "not stated"),
    ("smt-2025", "MathArena/smt_2025", "train", "cc-by-nc-sa-4.0"),
):
    register_source(_name, hub=_hub, split=_split, columns=(), licence=_licence)(PlainReader())


@register_source("gsm-plus", hub="qintongli/GSM-Plus", split="test", columns=(), licence="cc-by-sa-4.0")
def gsm_plus(row: dict) -> Row:
    """GSM8K's problems, changed in eight ways; of one of them ("critical thinking") no problem has an answer."""
    answer = gold_of(row.get("answer"))
    return Row(
        problem=text_of(row.get("question")),
        answer=answer,
        solution=_optional(row.get("solution")),
        subject=_optional(row.get("perturbation_type")),
        flaw="its question cannot be answered" if answer.strip().lower() == "none" else "",
    )


register_source("gsm8k-test", hub="openai/gsm8k", configs=("main",), split="test", columns=(), licence="mit")(gsm8k)


def _optional(value) -> str | None:
    return text_of(value) or None


def _first(value) -> str | None:
    """A text, or the first of a list."""
    value = decoded(value)
    return _optional(value[0] if isinstance(value, list) and value else value or None)


def _failed_share(value) -> float | None:
    """One minus a pass rate, None for what is none."""
    rate = number_of(value)
    return 1 - rate if rate is not None and 0 <= rate <= 1 else None


def _response(value) -> str | None:
    """A response: a text, or messages of which the last is the assistant's."""
    turns = turns_of(value)
    return turns[-1]["content"] if turns and turns[-1]["role"] == "assistant" else _optional(value)


def _boxed(text: str) -> str:
    found = extract(text)
    return found.answer if found.boxes else ""
