r"""From the rows of a set to the schema: by a table of columns, or by a function where a table cannot say it.

What sets write around a problem (an instruction) or an answer (tags) is taken off here: the commands add their own.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from openrlhf_math.data.columns import (
    USUAL,
    Columns,
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

KINDS = {"MCQ": "choice", "proof": "proof", "math-word-problem": "open"}
_CALCULATOR = re.compile(r"<<[^<>]*>>")
ASKS_BEFORE = (
    "Return your final response within \\boxed{}.",
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.",
)
ASKS_AFTER = (
    'Remember to put your answer on its own line after "Answer:".',
    "Let's think step by step and output the final answer within \\boxed{}.",
    'Let\'s think step by step and output the final answer after "####".',
)
THOUGHT_MARKS = {
    "<|begin_of_thought|>": "<think>",
    "<|end_of_thought|>": "</think>",
    "<|begin_of_solution|>": "",
    "<|end_of_solution|>": "",
}


@dataclass(frozen=True)
class PlainReader:
    """Reads the rows of files of no known set, by the names of their columns."""

    columns: Columns = field(default_factory=Columns)

    def __call__(self, row: dict) -> Row:
        values = {what: self.columns.find(what, row) for what in USUAL}
        answer = gold_of(values["answer"])
        if values["answer"] is values["solution"]:  # a worked solution in place of an answer ends in a box
            answer = boxed(answer) or answer
        return Row(
            problem=text_of(values["problem"]),
            answer=answer,
            solution=optional(values["solution"]),
            origin=optional(row.get("source")),
            trace=response(values["trace"]),
            difficulty=number_of(values["difficulty"]),
            dialogue=dialogue_of(values["problem"]),
        )


@dataclass(frozen=True)
class Fields:
    """Reads a known set by a table: which column holds what, "" where none does.

    boxed: whether the box of the solution is the answer where there is none. solved: the share of a model's attempts
    that solve the problem; the difficulty is one minus it. trace: the first of these that is not empty, unless the row
    has an `inference_mode` that is not "cot". kind: of the question, as NuminaMath names it.
    """

    problem: str = "problem"
    answer: str = "answer"
    solution: str = ""
    boxed: bool = False
    origin: str = "source"
    subject: str = ""
    difficulty: str = ""
    solved: str = ""
    trace: str = ""
    kind: str = ""

    def __call__(self, row: dict) -> Row:
        solution = text_of(row.get(self.solution))
        traces = (response(row.get(column)) for column in self.trace.split())
        is_trace = row.get("inference_mode") in (None, "cot")
        return Row(
            problem=text_of(row.get(self.problem)),
            answer=gold_of(row.get(self.answer)) or (boxed(solution) if self.boxed else ""),
            solution=solution or None,
            origin=optional(row.get(self.origin)),
            kind=KINDS.get(row.get(self.kind) or "", "open"),
            subject=first(row.get(self.subject)),
            difficulty=failed_share(row.get(self.solved)) if self.solved else number_of(row.get(self.difficulty)),
            trace=opened(next(filter(None, traces), None)) if is_trace else None,
        )


def conversation(row: dict) -> Row:
    """One question and its answer as turns, under `conversations` or `messages`, or as Open-Reasoner-Zero has them.

    The gold is what a turn carries (`ground_truth.value` of Open-Reasoner-Zero, `info.reference_answer` of
    AM-DeepSeek-R1-Distilled), else the box of the answer. What has none falls to the gold filter.
    """
    value = next((row[name] for name in ("conversations", "messages") if name in row), [row.get("0"), row.get("1")])
    turns = [turn for turn in decoded(value) or [] if isinstance(turn, dict)]
    messages = turns_of([turn for turn in turns if turn.get("content", turn.get("value")) is not None])
    asked = [index for index, turn in enumerate(messages) if turn["role"] == "user"]
    if len(asked) != 1:
        raise BrokenRow(f"it is a conversation with {len(asked)} questions, it must be one problem")
    trace = next((turn["content"] for turn in messages[asked[0] + 1 :] if turn["role"] == "assistant"), "")
    thinking = next((turn["reasoning_content"] for turn in turns if turn.get("reasoning_content")), "")
    if thinking and trace:
        trace = f"<think>\n{text_of(thinking).strip()}\n</think>\n\n{trace}"
    trace = with_think_tags(trace)
    if any(turn.get("info") for turn in turns):
        trace = without_answer_tags(trace)
    golds = (look(turn, name) for turn in turns for name in ("ground_truth.value", "info.reference_answer"))
    problem = without_instruction(messages[asked[0]]["content"])
    before = messages[: asked[0]]
    return Row(
        problem=problem,
        answer=next((gold for value in golds if (gold := gold_of(value))), "") or boxed(trace),
        origin=optional(row.get("source")) or optional(next((look(turn, "info.source") for turn in turns), None)),
        subject=optional(row.get("domain")),
        difficulty=number_of(row.get("difficulty")),
        trace=trace or None,
        dialogue=[*before, {"role": "user", "content": problem}] if before else None,
    )


def verl(row: dict) -> Row:
    """verl's columns: messages in `prompt`, the gold in `reward_model`, often the bare question in `extra_info`."""
    question = look(row, "extra_info.question")
    bare = isinstance(question, str) and bool(question.strip())
    problem = question if bare else without_instruction(text_of(row.get("prompt")))
    dialogue = None if bare else dialogue_of(row.get("prompt"))
    return Row(
        problem=problem,
        answer=gold_of(look(row, "reward_model.ground_truth")),
        origin=optional(row.get("data_source")),
        dialogue=dialogue and [*dialogue[:-1], {"role": "user", "content": problem}],
    )


_NUMINAMATH = Fields(solution="solution", subject="problem_type", kind="question_type")


def numinamath(row: dict) -> Row:
    """NuminaMath-1.5, which marks problems and solutions that are not whole."""
    flaws = [
        f"{what.replace('_is_valid', '')} marked {row[what]!r}"
        for what in ("problem_is_valid", "solution_is_valid")
        if row.get(what) not in ("Yes", None)
    ]
    return replace(_NUMINAMATH(row), flaw=", ".join(flaws))


def openr1(row: dict) -> Row:
    """OpenR1-Math: the trace is the first finished generation that math-verify, or else the judge, found correct."""
    return replace(_NUMINAMATH(row), trace=_verified_generation(row))


def _verified_generation(row: dict) -> str | None:
    for verdict in ("correctness_math_verify", "correctness_llama"):
        for index, text in enumerate(row.get("generations") or []):
            checks = [row.get(verdict) or [], row.get("is_reasoning_complete") or []]
            if all(index < len(check) and check[index] is True for check in checks) and isinstance(text, str):
                return text
    return None


def gsm8k(row: dict) -> Row:
    """The gold is behind `####`; `<<48/2=24>>` in the solution are calculator notes, not text."""
    solution, mark, gold = gold_of(row.get("answer")).rpartition("####")
    return Row(
        problem=text_of(row.get("question")),
        answer=gold.strip(),
        solution=_CALCULATOR.sub("", solution).strip() if mark else None,
    )


def gsm_plus(row: dict) -> Row:
    """GSM8K's problems, changed in eight ways; of one of them ("critical thinking") no problem has an answer."""
    answer = gold_of(row.get("answer"))
    return Row(
        problem=text_of(row.get("question")),
        answer=answer,
        solution=optional(row.get("solution")),
        subject=optional(row.get("perturbation_type")),
        flaw="its question cannot be answered" if answer.strip().lower() == "none" else "",
    )


def olympiadbench(row: dict) -> Row:
    """A problem may have a context; several golds are one answer together."""
    return Row(
        problem=" ".join(part for part in (text_of(row.get("context")), text_of(row.get("question"))) if part),
        answer=gold_of(row.get("final_answer"), joined=True),
        solution=gold_of(row.get("solution"), joined=True) or None,
        subject=optional(row.get("subfield")),
    )


def without_instruction(text: str) -> str:
    """A problem without what its set has written around it."""
    for asks in ASKS_BEFORE:
        if text.lstrip().startswith(asks):
            text = text.lstrip().removeprefix(asks).lstrip()
    for asks in ASKS_AFTER:
        if text.rstrip().endswith(asks):
            text = text.rstrip().removesuffix(asks).rstrip()
    return text


def with_think_tags(text: str) -> str:
    """A text with <think> for the marks of Sky-T1, Bespoke-Stratos and OpenThoughts."""
    for mark, ours in THOUGHT_MARKS.items():
        text = text.replace(mark, ours)
    return text


def without_answer_tags(text: str) -> str:
    """An answer of AM-DeepSeek-R1-Distilled without its tags; it holds its box."""
    return text.replace("<answer>", "").replace("</answer>", "")


def opened(trace: str | None) -> str | None:
    """A trace that begins within its thinking, with the opening tag."""
    return f"<think>\n{trace}" if trace and "</think>" in trace and "<think>" not in trace else trace


def optional(value: object) -> str | None:
    return text_of(value) or None


def first(value: object) -> str | None:
    """A text, or the first of a list."""
    value = decoded(value)
    return optional(value[0] if isinstance(value, list) and value else value or None)


def failed_share(value: object) -> float | None:
    """One minus a pass rate, None for what is none."""
    rate = number_of(value)
    return 1 - rate if rate is not None and 0 <= rate <= 1 else None


def response(value: object) -> str | None:
    """A response: a text, or messages of which the last is the assistant's."""
    turns = turns_of(value)
    return turns[-1]["content"] if turns and turns[-1]["role"] == "assistant" else optional(value)


def boxed(text: str) -> str:
    """The answer in the last box of a text, "" without one."""
    found = extract(text)
    return found.answer or "" if found.boxes else ""
