r"""Problem sets of the field: how the columns of each are read into the schema.

A set is known by its name (`numinamath-1.5=FILE`, `AI-MO/NuminaMath-1.5`) or by its columns; other sets are read by the
usual names, or by those that a flag gives.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from openrlhf_math.data.columns import MISSING, USUAL, Columns, check_columns, number_of
from openrlhf_math.data.readers import (
    Fields,
    PlainReader,
    Reader,
    conversation,
    gsm8k,
    gsm_plus,
    numinamath,
    olympiadbench,
    openr1,
    optional,
    response,
    verl,
)
from openrlhf_math.data.schema import Row


@dataclass(frozen=True, slots=True)
class Source:
    """A known set: its name, how a row is read, and the columns by which it is recognised (none: by its name alone).

    hub, configs, split: its place on the hub, "" for none. learned: what `sft` reads of a row where the usual columns
    do not say it: a column of messages, or PROMPT+RESPONSE; several are a conversation each.
    """

    name: str
    read: Reader
    columns: frozenset[str]
    hub: str = ""
    licence: str = "not stated"
    configs: tuple[str, ...] = ()
    split: str = "train"
    learned: tuple[str, ...] = ()


def _source(
    name: str, read: Reader, columns: str = "", hub: str = "", licence: str = "not stated", **more: Any
) -> Source:
    return Source(name, read, frozenset(columns.split()), hub, licence, **more)


_MATH_CONFIGS = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra",
    "precalculus",
)  # fmt: skip
_MATHARENA = "cc-by-nc-sa-4.0"
_KNOWN = (
    _source(
        "numinamath-1.5", numinamath,
        "problem solution answer problem_type question_type problem_is_valid solution_is_valid",
        "AI-MO/NuminaMath-1.5", "apache-2.0",
    ),
    _source(
        "openr1-math-220k", openr1, "problem solution answer question_type generations correctness_math_verify",
        "open-r1/OpenR1-Math-220k", "apache-2.0", configs=("default",), learned=("messages",),
    ),
    _source(
        "numinamath-cot", Fields(answer="", solution="solution", boxed=True, trace="messages solution"),
        "source problem solution messages", "AI-MO/NuminaMath-CoT", "apache-2.0", learned=("messages",),
    ),
    _source(
        "big-math", Fields(subject="domain", solved="llama8b_solve_rate"),
        "problem answer source domain llama8b_solve_rate", "SynthLabsAI/Big-Math-RL-Verified", "apache-2.0",
    ),
    _source(
        "polaris-53k", Fields(origin="", solved="difficulty"), "", "POLARIS-Project/Polaris-Dataset-53K", "apache-2.0",
    ),
    _source(
        "omni-math", Fields(solution="solution", subject="domain", difficulty="difficulty"),
        "domain difficulty problem solution answer source", "KbsdJames/Omni-MATH", "apache-2.0", split="test",
    ),
    _source(
        "openmathreasoning",
        Fields(
            answer="expected_answer", origin="problem_source", solved="pass_rate_72b_tir", trace="generated_solution"
        ),
        "problem expected_answer generated_solution inference_mode", "nvidia/OpenMathReasoning", "cc-by-4.0",
        split="cot",
    ),
    _source(
        "deepmath-103k",
        Fields(
            problem="question", answer="final_answer", origin="", subject="topic", difficulty="difficulty",
            trace="r1_solution_1",
        ),
        "question final_answer difficulty topic r1_solution_1", "zwhe99/DeepMath-103K", "mit",
        learned=tuple(f"question+r1_solution_{number}" for number in (1, 2, 3)),
    ),
    _source("gsm8k", gsm8k, "question answer", "openai/gsm8k", "mit", configs=("main",)),
    _source("gsm8k-test", gsm8k, "", "openai/gsm8k", "mit", configs=("main",), split="test"),
    _source(
        "math", Fields(solution="solution", boxed=True, origin="", subject="type", difficulty="level"),
        "problem solution level type", "EleutherAI/hendrycks_math", "mit", configs=_MATH_CONFIGS,
    ),
    _source(
        "math-500", Fields(solution="solution", boxed=True, origin="", subject="subject", difficulty="level"),
        "problem solution answer subject level unique_id", "HuggingFaceH4/MATH-500", "mit", split="test",
    ),
    _source(
        "olympiadbench", olympiadbench, "question final_answer solution subfield", "Hothan/OlympiadBench",
        "apache-2.0", configs=("OE_TO_maths_en_COMP",),
    ),
    # One question and its answer as turns.
    _source(
        "bespoke-stratos-17k", conversation, "system conversations", "bespokelabs/Bespoke-Stratos-17k", "apache-2.0"
    ),
    _source("openthoughts3", conversation, "domain source conversations", "open-thoughts/OpenThoughts3-1.2M"),
    _source("mixture-of-thoughts", conversation, "messages num_tokens source", "open-r1/Mixture-of-Thoughts"),
    _source("am-deepseek-r1-distilled", conversation, "", "a-m-team/AM-DeepSeek-R1-Distilled-1.4M"),
    _source("orz", conversation, "0 1"),
    _source("conversations", conversation),
    _source("verl", verl, "prompt reward_model"),
    _source("dapo-math-17k", verl, "", "BytedTsinghua-SIA/DAPO-Math-17k", "apache-2.0"),
    _source("skywork-or1", verl, "", "Skywork/Skywork-OR1-RL-Data", split="math"),
    # Plain columns.
    _source("acereason-math", PlainReader(), "", "nvidia/AceReason-Math"),
    _source("aime", PlainReader(), "", "AI-MO/aimo-validation-aime", "apache-2.0"),
    _source("aime-2024", PlainReader(), "", "HuggingFaceH4/aime_2024"),
    _source("aime-2025", PlainReader(), "", "math-ai/aime25", split="test"),
    _source("amc", PlainReader(), "", "AI-MO/aimo-validation-amc", "apache-2.0"),
    _source("aime-2026", PlainReader(), "", "MathArena/aime_2026", _MATHARENA),
    _source("amc-2023", PlainReader(), "", "math-ai/amc23", split="test"),
    _source("amo-bench", PlainReader(), "", "meituan-longcat/AMO-Bench", "see its card", split="test"),
    _source("beyond-aime", PlainReader(), "", "ByteDance-Seed/BeyondAIME", "see its card", split="test"),
    _source("brumo-2025", PlainReader(), "", "MathArena/brumo_2025", _MATHARENA),
    _source("cmimc-2025", PlainReader(), "", "MathArena/cmimc_2025", _MATHARENA),
    _source("college-math", PlainReader(), "", "di-zhang-fdu/College_Math_Test", "apache-2.0", split="test"),
    _source("gsm-plus", gsm_plus, "", "qintongli/GSM-Plus", "cc-by-sa-4.0", split="test"),
    _source("hmmt-feb-2025", PlainReader(), "", "MathArena/hmmt_feb_2025", _MATHARENA),
    _source("hmmt-feb-2026", PlainReader(), "", "MathArena/hmmt_feb_2026", _MATHARENA),
    _source("hmmt-nov-2025", PlainReader(), "", "MathArena/hmmt_nov_2025", _MATHARENA),
    _source("imo-answerbench", PlainReader(), "", "Hwilner/imo-answerbench", "see its card"),
    _source("minerva", PlainReader(), "", "math-ai/minervamath", split="test"),
    _source("smt-2025", PlainReader(), "", "MathArena/smt_2025", _MATHARENA),
)  # fmt: skip
SOURCES = {source.name: source for source in _KNOWN}


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
            found = replace(found, solution=optional(columns.find("solution", row)))
        if columns.trace:
            found = replace(found, trace=response(columns.find("trace", row)))
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
    if "problem" in columns:  # the first of the usual names: with it, `question` is something else
        fitting = [source for source in fitting if "question" not in source.columns]
    if fitting:
        return max(fitting, key=lambda source: len(source.columns)).name
    is_conversation = not columns.isdisjoint(("conversations", "messages")) and columns.isdisjoint(USUAL["problem"])
    return "conversations" if is_conversation else ""
